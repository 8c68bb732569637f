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
      /** What is wrong, such as unit_failed; the page of the action lists all kinds. */
      kind: string;
      /** The host, member, machine or unit, or the list. */
      subject: string;
      /** What is wrong. */
      message: string;
      /** What to do about it. */
      advice: string;
      /** The figures that it rests on; which, depends on the kind. */
      evidence: Record<string, unknown>;
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
  /** Stops a unit and removes its file. */
  destroy_unit: {
    parameters: {
      /** The unit. */
      unit_name: string;
      /** The name of the unit once more. */
      confirm: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** The time limit on each machine, in seconds. */
      wait_seconds?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Has a unit of systemd hosts not started at boot any more. */
  disable_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Has a unit of systemd hosts started at boot. */
  enable_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Lists the clusters that have names. */
  list_clusters: {
    parameters: Record<string, never>;
    result: {
      /** Send it as `etcd_token`. */
      name: string;
      /** fleet: CoreOS fleet over etcd. systemd: plain hosts, reached by SSH. */
      kind: 'fleet' | 'systemd';
      /** How many machines the operator lists; null: the cluster itself knows. */
      machines: number | null;
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
  /** Lists the unit files of the machines of a cluster, also of units that do not run. */
  list_unit_files: {
    parameters: {
      /** Only units with this name, or that match this pattern. */
      name?: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** On systemd hosts those of the distribution too. */
      all?: boolean;
    };
    /** By unit and machine. */
    result: {
      /** The unit. */
      unit: string;
      /** enabled, disabled, static, masked, alias, linked, generated or transient; of fleet the desired state. */
      state: string;
      /** The machine; null: fleet. */
      host: string | null;
      /** Its id. */
      machine_id: string | null;
      /** Where it is. */
      path: string | null;
    }[];
  };
  /** Lists the systemd states of the units on each machine of a cluster. */
  list_unit_states: {
    parameters: {
      /** Only the states of this unit. */
      unit_name?: string;
      /** Only the states on this machine. */
      machine_id?: string;
      /** On plain systemd hosts also the states of the units of the distribution that are loaded. */
      all?: boolean;
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
      /** On plain systemd hosts also the units of the distribution that are loaded. */
      all?: boolean;
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
  /** Has fleet choose a machine for a unit, without starting it. */
  load_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The time limit on each machine, in seconds. */
      wait_seconds?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Shows the operating system, Docker and Podman, disk use, load, memory, failed units and clock of nodes. */
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
        /** Podman; null: it is not installed. */
        podman: {
          /** Its version. */
          version: string | null;
          /** Whether `podman version` succeeds. */
          answers: boolean;
        } | null;
        /** An operating system that is updated as a whole; null: there is no rpm-ostree and no update_engine. */
        os_image: {
          /** Which of the two updates it. */
          updated_by: 'rpm-ostree' | 'update_engine';
          /** The version that runs; the checksum where rpm-ostree has no version. */
          booted_version: string | null;
          /** Whether another version is ready, and boots next. */
          staged: boolean;
          /** That version; null: there is none, or update_engine does not name it. */
          staged_version: string | null;
        } | null;
        /** The units of systemd that have failed; null: there is no systemd. */
        failed_units: {
          /** How many there are. */
          count: number;
          /** The names of the first 20. */
          names: string[];
        } | null;
        /** The clock of the machine. */
        clock: {
          /** How far it is ahead of the clock of this service, in milliseconds; negative: behind. */
          offset_ms: number;
          /** By how much this may be wrong in either direction, in milliseconds: half the time on the way. */
          uncertainty_ms: number;
        } | null;
        /** Why values could not be read; empty when all were read that the machine has. */
        errors: string[];
      }
    >;
  };
  /** Writes files of units, after a check, and returns to the old ones when a unit does not run with its new one. */
  put_unit: {
    parameters: {
      /** The unit; or name several in units. */
      unit_name?: string;
      /** The text of its file. */
      text?: string;
      /** Several units, whose files systemd reads together, once. */
      units?: {
        /** The unit. */
        unit_name: string;
        /** The text of its file. */
        text: string;
      }[];
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** restart: active units are restarted; start: the others are started too; none. */
      activate?: 'none' | 'restart' | 'start';
      /** Only checks, and shows the difference. */
      dry_run?: boolean;
      /** How long a unit must stay active with its new file, in seconds. */
      settle_seconds?: number;
      /** The time limit on each machine, in seconds. */
      wait_seconds?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
        /** The text that was there; null: there was no file. */
        replaced: string | null;
        /** The difference, in the unified format, cut after 16 KiB; null: the text is the same. */
        diff: string | null;
        /** What systemd, or a check of what fleet keeps, says of the new file, and yet accepts. */
        warnings: string[];
        /** The unit of this file. */
        unit: string;
      }[];
    };
  };
  /** Has a running unit read its configuration again, without a restart. */
  reload_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Forgets that a unit has failed, and its count of starts. */
  reset_failed_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Restarts a unit, and checks that it really stopped and is up again. */
  restart_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The time limit for stopping and starting together, in seconds. */
      wait_seconds?: number;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** How long it must stay active, by the same start, in seconds; fleet watches it for 7. */
      settle_seconds?: number;
      /** text: a string for people; structured: { unit, changes, text }. */
      format?: 'text' | 'structured';
    };
    /** A string for people: the states before and after, and how long it took. With format structured the object { unit, changes, text }, where changes has what was done on each machine. */
    result: string | Record<string, unknown>;
  };
  /** Changes many units in batches, each proven before the next, and stops when too many fail. */
  rollout: {
    parameters: {
      /** restart, start, stop, reload, or put: a new file. */
      operation: 'restart' | 'start' | 'stop' | 'reload' | 'put';
      /** The units: a name, or a pattern such as web@*.service. */
      units?: string;
      /** Only on machines that have all of these entries in their metadata. */
      metadata?: Record<string, string>;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** For put: the text of the file; units is one name then. */
      text?: string;
      /** How many targets at the same time: a number, or a part such as 25%. */
      batch?: string;
      /** The pause between two batches, in seconds. */
      pause_seconds?: number;
      /** How long a unit must stay active, by the same start, in seconds. */
      settle_seconds?: number;
      /** The time limit of each target, in seconds. */
      wait_seconds?: number;
      /** How many targets may fail; with one more no further batch begins. */
      max_failures?: number;
      /** Answers with the plan, and touches nothing. */
      dry_run?: boolean;
      /** Of a dry run: refused when the cluster has changed since. */
      plan_hash?: string;
      /** The number of targets; needed when they are many. */
      confirm_count?: number;
    };
    result: {
      /** The operation. */
      operation: string;
      /** Why it has ended; planned: a dry run. */
      ended: 'planned' | 'completed' | 'max_failures' | 'deadline' | 'cancelled' | 'shutdown';
      /** Names the plan, for a rollout after a dry run. */
      plan_hash: string;
      /** The number of targets to change, as confirm_count. */
      count: number;
      /** The number of batches. */
      batches: number;
      /** In the order in which they are tried. */
      targets: {
        /** The unit. */
        unit: string;
        /** The machine; null: fleet knows. */
        machine_id: string | null;
        /** Its batch; 0: nothing is to be done. */
        batch: number;
        /** Its states when the plan was made; a global unit may have several. */
        states: string[];
        /** The hash of its file then. */
        file_hash: string | null;
        /** What came of it. */
        status: 'planned' | 'done' | 'unchanged' | 'failed' | 'not_tried';
        /** What was done, as its action says. */
        did: string | null;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it was after. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it has failed. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
      /** What was running, and is not seen to be any more. */
      left_stopped: string[];
    };
  };
  /** Starts a unit, and checks that it is up and stays up. */
  start_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** The time limit on each machine, in seconds. */
      wait_seconds?: number;
      /** How long it must stay active, by the same start, in seconds; on fleet at least 7. */
      settle_seconds?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Stops a unit, and checks that it has stopped. */
  stop_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
      /** The time limit on each machine, in seconds. */
      wait_seconds?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Returns the file of a unit, with its drop-ins, as each machine has it. */
  unit_file: {
    parameters: {
      /** The unit; templates too. */
      unit_name: string;
      /** The ids of the machines; by default all that have the unit. */
      machine_ids?: string[];
    };
    result: {
      /** The unit. */
      unit: string;
      /** One for each machine that has the unit. */
      files: {
        /** The machine; null: fleet's own. */
        machine_id: string | null;
        /** Its address. */
        host: string | null;
        /** Where it is; null: fleet's own. */
        path: string | null;
        /** The text as it is there; null: it cannot be told, as a warning says. */
        text: string | null;
        /** What a generator has made it from, such as a quadlet. */
        source: {
          /** Where it is. */
          path: string;
          /** The text; null: it cannot be told. */
          text: string | null;
        } | null;
        /** Files that change it, such as X.service.d/more.conf. */
        drop_ins: {
          /** Where it is. */
          path: string;
          /** The text; null: it cannot be told. */
          text: string | null;
        }[];
        /** The hash that fleet has of such a unit. */
        hash: string | null;
        /** Whether systemd has read these texts; null: not known. */
        is_current: boolean | null;
      }[];
    };
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
  /** Returns what systemd says of a unit on each machine that has it, with the last lines of its log. */
  unit_status: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** Only these machines, also when the cluster does not list the unit there. */
      machine_ids?: string[];
      /** The number of last lines of its log from each machine. */
      lines?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What the cluster wants of it: inactive, loaded, launched. Of systemd hosts: launched when it is enabled, else loaded; null: it is none of the units that the cluster lists. */
      desired_state: string | null;
      /** The machines that have it. */
      machines: {
        /** The id of the machine; null: it does not answer, and is known by its address only. */
        machine_id: string | null;
        /** Its address; null: the cluster lists none. */
        host: string | null;
        /** Such as loaded, not-found, masked. */
        load: string | null;
        /** Such as active, inactive, failed. */
        active: string | null;
        /** Such as running, dead, exited. */
        sub: string | null;
        /** Since when it is active, or whatever it is: ISO 8601, by the machine's clock. */
        since: string | null;
        /** The process id of its main process. */
        main_pid: number | null;
        /** The memory that it uses. */
        memory_bytes: number | null;
        /** How many processes and threads it has. */
        tasks: number | null;
        /** How often systemd has restarted it by itself since somebody started it. */
        restarts: number | null;
        /** How it ended last, or success while it has not: exit-code, signal, timeout and others. */
        result: string | null;
        /** With which status its main process has exited. */
        exit_status: number | null;
        /** The number of the signal that ended its main process. */
        exit_signal: number | null;
        /** Another one for each start. */
        invocation_id: string | null;
        /** Such as enabled, disabled, static, masked. */
        enabled: string | null;
        /** Whether its file has changed since systemd read it. */
        needs_daemon_reload: boolean | null;
        /** Whether it can reload its configuration. */
        can_reload: boolean | null;
        /** The path of its file. */
        fragment_path: string | null;
        /** The paths of the files that extend its file. */
        drop_ins: string[] | null;
        /** The last lines of its log, oldest first; null: it could not be read. */
        log: string[] | null;
        /** Why the machine, or its log, could not be read completely; null: it was. */
        error: {
          /** An error code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
  /** Stops a unit and has fleet take it off its machine. */
  unload_unit: {
    parameters: {
      /** The unit; not a template. */
      unit_name: string;
      /** The time limit on each machine, in seconds. */
      wait_seconds?: number;
    };
    result: {
      /** The unit. */
      unit: string;
      /** What was done on each machine. */
      changes: {
        /** The machine; null: the unit is on none. */
        machine_id: string | null;
        /** Its address, where it was asked itself. */
        host: string | null;
        /** What was done: started, restarted, ...; nothing: it was so before; unknown. */
        did: string;
        /** What it was before. */
        before: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** What it is now, some seconds after a start. */
        after: {
          /** loaded, not-found, masked, bad-setting or error. */
          load: string | null;
          /** active, inactive, failed, activating, ... */
          active: string | null;
          /** running, dead, exited, auto-restart, ... */
          sub: string | null;
          /** How it ended last: success, exit-code, ... */
          result: string | null;
          /** Another one for each start. */
          invocation_id: string | null;
          /** The main process. */
          main_pid: number | null;
          /** How often systemd has restarted it by itself. */
          restarts: number | null;
          /** enabled, disabled, static, ... (systemd). */
          enabled: string | null;
          /** inactive, loaded or launched (fleet). */
          desired: string | null;
        } | null;
        /** How long it took. */
        took_ms: number;
        /** Why it is not as asked; null: it is. */
        error: {
          /** The code. */
          code: string;
          /** For people. */
          message: string;
        } | null;
      }[];
    };
  };
}

/** The names of the actions that do not change the cluster. */
export const KNOWN_READS: ReadonlySet<string> = new Set<keyof ServiceActions>([
  'check_cluster',
  'describe_actions',
  'list_clusters',
  'list_machines',
  'list_unit_files',
  'list_unit_states',
  'list_units',
  'node_info',
  'unit_file',
  'unit_logs',
  'unit_status',
]);
