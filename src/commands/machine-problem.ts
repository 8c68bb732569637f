/** What is wrong with a machine. */
export interface MachineProblem {
  /** `failure`: an action fails because of it. `warning`: it works, or only a part of a result is missing. */
  severity: 'failure' | 'warning';
  /** The reason, which names the machine. */
  reason: string;
  /** What to do, with `HOST` for the address of the machine: it may be the same for several machines. */
  remedy: string;
}

/** The settings that problems with machines come from. */
export interface LoginSettings {
  user: string;
  port: number;
  /** Undefined: the user has no home folder, and no file is set. */
  knownHostsFile: string | undefined;
  /** Whether commands run by sudo. */
  sudo: boolean;
  /** Whether port and user are those of the machine in `CLUSTERS_FILE`; by default they are those of the settings. */
  own?: { port: boolean; user: boolean };
}

/** The login to a machine that may have its own port and user. */
export function ownLogin(
  settings: LoginSettings,
  login: { port: number | undefined; user: string | undefined } | undefined,
): LoginSettings {
  if (login === undefined) return settings;
  const { port = settings.port, user = settings.user } = login;
  return { ...settings, port, user, own: { port: login.port !== undefined, user: login.user !== undefined } };
}

export function failure(reason: string, remedy: string): MachineProblem {
  return { severity: 'failure', reason, remedy };
}

export function warning(reason: string, remedy: string): MachineProblem {
  return { severity: 'warning', reason, remedy };
}
