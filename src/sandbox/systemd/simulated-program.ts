/** What a program of a unit does: nothing is executed. */
export interface SimulatedProgram {
  /** How long it runs, in milliseconds; Infinity: until it is stopped. */
  runsMs: number;
  /** Its exit status after that. */
  status: number;
  /** Whether it tells systemd that it is ready, or forks: what `Type=notify` and others wait for. */
  isReady: boolean;
}

/** The exit status of systemd for a program that is not there. */
export const NOT_EXECUTABLE = 203;

const FOREVER: SimulatedProgram = { runsMs: Number.POSITIVE_INFINITY, status: 0, isReady: true };

/**
 * What the program of a line of `ExecStart=` does. Known are `true`, `false`, `sleep N` and `sh -c 'sleep N; exit STATUS'`, each part of
 * which may be left out, and that nothing below `/no/` is there. Any other program runs until it is stopped, or ends well when it is that
 * of a oneshot.
 */
export function programOf(line: string, { isOneshot }: { isOneshot: boolean }): SimulatedProgram {
  const [, flags = '', command = ''] = /^([-@:+!]*)(.*)$/s.exec(line.trim()) ?? [];
  const program = knownProgram(command) ?? (isOneshot ? { runsMs: 20, status: 0, isReady: true } : FOREVER);
  return flags.includes('-') ? { ...program, status: 0 } : program;
}

function knownProgram(command: string): SimulatedProgram | undefined {
  const [path = '', first = ''] = command.split(/\s+/, 2);
  if (path.startsWith('/no/')) return ends(0, NOT_EXECUTABLE);
  const name = path.slice(path.lastIndexOf('/') + 1);
  if (name === 'true') return ends(0, 0);
  if (name === 'false') return ends(0, 1);
  if (name === 'sleep')
    return first === 'infinity' ? { ...FOREVER, isReady: false } : ends(Number(first) * 1_000, 0);
  if (name !== 'sh' && name !== 'bash') return undefined;
  const [whole, seconds = '0', status = '0'] =
    /-c\s+(["'])\s*(?:sleep ([\d.]+)\s*;?\s*)?(?:exit (\d{1,3})\s*)?\1\s*$/.exec(command)?.toSpliced(1, 1) ??
    [];
  return whole === undefined ? undefined : ends(Number(seconds) * 1_000, Number(status));
}

function ends(runsMs: number, status: number): SimulatedProgram {
  return { runsMs, status, isReady: false };
}
