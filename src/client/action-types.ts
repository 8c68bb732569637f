// Generated from what the plugins declare, by `npm run generate`. Do not edit.

/** The actions that come with the service: what each takes and gives. */
export interface KnownActions {
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
      /** Its metadata in fleet, such as its region. */
      metadata: Record<string, string>;
    }[];
  };

  /** Lists the systemd states of units on each machine of a cluster. */
  list_unit_states: {
    parameters: {
      /** Only the states of this unit. */
      unit_name?: string;
      /** Only the states on this machine. */
      machine_id?: string;
    };
    result: {
      /** The unit's name; a global unit has a state on every machine. */
      name: string;
      /** sha1 of the unit file that runs. */
      hash: string | null;
      /** The machine. */
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
      /** Only units with this current state in fleet; it has no meaning for global units. */
      current_state?: 'inactive' | 'loaded' | 'launched';
      /** Only units scheduled to this machine. */
      machine_id?: string;
    };
    result: {
      /** The unit's name. */
      name: string;
      /** The unit file, an entry for each option. */
      options: {
        /** The section of the unit file. */
        section: string;
        /** The option's name. */
        name: string;
        /** The option's value; empty where the file leaves it empty. */
        value: string;
      }[];
      /** inactive, loaded or launched. */
      desiredState: string | null;
      /** inactive, loaded or launched; launched does not mean healthy. */
      currentState: string | null;
      /** Where it is scheduled; null: nowhere, or everywhere. */
      machineID: string | null;
    }[];
  };

  /** Shows the operating system, Docker version, disk use, load and memory of nodes. */
  node_info: {
    parameters: {
      /** Addresses or host names. With an etcd_token: machines of that cluster, all when left out. */
      nodes?: (string | null)[];
    };
    /** A map from each node to what is known of it; what could not be read is null. */
    result: Record<
      string,
      {
        /** The use% of the file system that holds /var/lib/docker. */
        docker_disk_space_percent: number | null;
        /** The text of /etc/os-release. */
        coreos_version: string | null;
        /** The text of `docker version`. */
        docker_version: string | null;
        /** Why something could not be read; empty when everything was. */
        errors: string[];
        /** The file system that holds /var/lib/docker. */
        disk: {
          /** Its size, in MiB. */
          size_mb: number;
          /** How much of it is used, in MiB. */
          used_mb: number;
          /** How much of it is available, in MiB. */
          available_mb: number;
          /** The use% that df shows. */
          used_percent: number;
        } | null;
        /** What /etc/os-release says. */
        os: {
          /** Its ID, such as coreos. */
          id: string | null;
          /** Its VERSION_ID, or else its VERSION. */
          version: string | null;
          /** Its PRETTY_NAME. */
          name: string | null;
        } | null;
        /** What `docker version` says. */
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
          /** All of it, in KiB. */
          total_kb: number;
          /** Memory that programs can still get, in KiB; null: unknown to the kernel. */
          available_kb: number | null;
        } | null;
        /** How long the machine has been up. */
        uptime_seconds: number | null;
      }
    >;
  };

  /** Restarts a unit, and checks that it has really stopped and is active again. */
  restart_unit: {
    parameters: {
      /** The unit; not a global one. */
      unit_name: string;
      /** How long to wait until it has stopped and started again, in total. */
      wait_seconds?: number;
    };
    /** What was observed, for people: the states before and after, and the duration. */
    result: string;
  };

  /** Gives the last lines that a unit wrote to the journal, from every machine on which it runs. */
  unit_logs: {
    parameters: {
      /** The unit. */
      unit_name: string;
      /** How many of the last lines, from each machine. */
      lines?: number;
      /** Only lines from then on: 2024-05-01 10:00, yesterday, -2h, 30 min ago, @1714500000. */
      since?: string;
      /** Only lines up to then, in the same forms. */
      until?: string;
      /** Only from this machine. */
      machine_id?: string;
    };
    /** The lines as journalctl prints them; headed by its machine, when there are several. */
    result: string;
  };
}

/** Those of them that leave the cluster as it is. */
export const KNOWN_READS: ReadonlySet<string> = new Set<keyof KnownActions>([
  'list_machines',
  'list_unit_states',
  'list_units',
  'node_info',
  'unit_logs',
]);
