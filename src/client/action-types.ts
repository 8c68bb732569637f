// Generated from what the plugins declare, by `npm run generate`. Do not edit.

/** The parameters and results of the actions that come with the service. */
export interface ServiceActions {
  /** Checks a cluster and lists what is wrong; a healthy cluster has no findings. */
  check_cluster: {
    parameters: Record<string, never>;
    /** The findings, the hosts first. */
    result: {
      /** error: something does not work; warning: something may be wrong. */
      severity: 'error' | 'warning';
      /** host_not_answering, machine_not_listed, member_invalid, machine_without_address, list_unreadable, list_incomplete, or state_missing. */
      kind: string;
      /** The host, member, machine or unit, or the list. */
      subject: string;
      /** What is wrong. */
      message: string;
      /** What to do about it. */
      advice: string;
    }[];
  };
  /** Describes the actions of this service. */
  describe_actions: {
    parameters: {
      /** Only actions of this name, or matching this pattern. */
      name?: string;
      /** Whether to leave out the schemas of parameters and results. */
      brief?: boolean;
    };
    result: {
      /** The name of the action. */
      name: string;
      /** Its purpose. */
      summary: string;
      /** Whether it needs, accepts or refuses an etcd token. */
      target: 'cluster' | 'optional' | 'none';
      /** Whether it changes something. */
      effect: 'read' | 'change';
      /** What happens to a request that a lost worker may have begun. */
      redelivery: 'run-again' | 'refuse';
      /** How long one run may take, in milliseconds. */
      timeout_ms: number;
      /** The JSON Schema of its parameters. */
      parameters?: Record<string, unknown>;
      /** The JSON Schema of its result. */
      result?: Record<string, unknown>;
    }[];
  };
  /** Lists the machines of a cluster. */
  list_machines: {
    parameters: {
      /** Only machines whose metadata has all of these values. */
      metadata?: Record<string, string>;
    };
    result: {
      /** The machine id. */
      id: string;
      /** Its address in fleet. */
      primaryIP: string | null;
      /** The metadata of the machine in fleet, such as its region. */
      metadata: Record<string, string>;
    }[];
  };
  /** Lists the systemd states of the units on each machine of a cluster. */
  list_unit_states: {
    parameters: {
      /** Only the states of this unit. */
      unit_name?: string;
      /** Only the states on this machine. */
      machine_id?: string;
    };
    result: {
      /** The unit's name; a global unit has a state on every machine that meets its requirements. */
      name: string;
      /** The sha1 of the running unit file. */
      hash: string | null;
      /** The id of the machine. */
      machineID: string | null;
      /** Such as loaded, not-found. */
      systemdLoadState: string | null;
      /** Such as active, inactive, failed. */
      systemdActiveState: string | null;
      /** Such as running, dead, exited. */
      systemdSubState: string | null;
    }[];
  };
  /** Lists the units of a cluster with their options and states. */
  list_units: {
    parameters: {
      /** Only units of this name, or matching this pattern: web@*.service. */
      name?: string;
      /** Only units with this desired state. */
      desired_state?: 'inactive' | 'loaded' | 'launched';
      /** Only units that fleet reports in this state; not meaningful for global units. */
      current_state?: 'inactive' | 'loaded' | 'launched';
      /** Only units scheduled to this machine. */
      machine_id?: string;
    };
    result: {
      /** The unit's name. */
      name: string;
      /** The unit file, one entry for each option. */
      options: {
        /** The section of the unit file. */
        section: string;
        /** The option's name. */
        name: string;
        /** The option's value; may be empty. */
        value: string;
      }[];
      /** inactive, loaded or launched. */
      desiredState: string | null;
      /** inactive, loaded or launched; launched does not mean healthy. */
      currentState: string | null;
      /** The machine that it is scheduled to; null: none, or the unit is global. */
      machineID: string | null;
    }[];
  };
  /** Shows the operating system, Docker version, disk use, load and memory of nodes. */
  node_info: {
    parameters: {
      /** Addresses or host names. With an etcd_token: machines of that cluster, by default all. */
      nodes?: (string | null)[];
    };
    /** A map from each node to its information; a value that could not be read is null. */
    result: Record<
      string,
      {
        /** The use% of the file system that holds /var/lib/docker. */
        docker_disk_space_percent: number | null;
        /** The text of /etc/os-release. */
        coreos_version: string | null;
        /** The text of `docker version`. */
        docker_version: string | null;
        /** Why values could not be read; empty when all were read. */
        errors: string[];
        /** The file system that holds /var/lib/docker. */
        disk: {
          /** Its size, in MiB. */
          size_mb: number | null;
          /** The used space, in MiB. */
          used_mb: number | null;
          /** The available space, in MiB. */
          available_mb: number | null;
          /** The use% that df shows; null where it shows none. */
          used_percent: number | null;
        } | null;
        /** The values of /etc/os-release. */
        os: {
          /** Its ID, such as coreos; linux when it has none. */
          id: string | null;
          /** Its VERSION_ID, or else its VERSION. */
          version: string | null;
          /** Its PRETTY_NAME. */
          name: string | null;
        } | null;
        /** The versions in `docker version`. */
        docker: {
          /** The version of the client. */
          client_version: string | null;
          /** The version of the server. */
          server_version: string | null;
        } | null;
        /** The load of the last 1, 5 and 15 minutes. */
        load: number[] | null;
        /** The memory of the machine. */
        memory: {
          /** The total, in KiB. */
          total_kb: number;
          /** The memory available to programs, in KiB; null: the kernel does not report it. */
          available_kb: number | null;
        } | null;
        /** How long the machine has been up. */
        uptime_seconds: number | null;
      }
    >;
  };
  /** Restarts a unit, and checks that it really stopped and is up again. */
  restart_unit: {
    parameters: {
      /** The unit; not a global one, and not a template. */
      unit_name: string;
      /** The time limit for stopping and starting together, in seconds. */
      wait_seconds?: number;
    };
    /** A string for people: the states before and after, and how long each step took. */
    result: string;
  };
  /** Returns the last lines that a unit wrote to the journal, from every machine it runs on. */
  unit_logs: {
    parameters: {
      /** The unit. */
      unit_name: string;
      /** The number of last lines from each machine. */
      lines?: number;
      /** Only lines from this time on: 2024-05-01 10:00, yesterday, -2h, 30 min ago, @1714500000. */
      since?: string;
      /** Only lines up to this time, in the same formats. */
      until?: string;
      /** Only from this machine. */
      machine_id?: string;
    };
    /** The lines as journalctl prints them; with several machines, each part has a header with the machine id. */
    result: string;
  };
}

/** The names of the actions that do not change the cluster. */
export const KNOWN_READS: ReadonlySet<string> = new Set<keyof ServiceActions>([
  'check_cluster',
  'describe_actions',
  'list_machines',
  'list_unit_states',
  'list_units',
  'node_info',
  'unit_logs',
]);
