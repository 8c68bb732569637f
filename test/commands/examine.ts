import type { ExecutionContext } from 'ava';
import { doctor, type DoctorOptions } from '../../src/commands/doctor.js';
import type { Ended } from './cli-process.js';

export type Environment = Record<string, string>;

/** The output of a run of `doctor`, by check, in order. */
interface Examined {
  code: number;
  text: string;
  names: string[];
  /** The result of a check, and the lines that were printed for it. */
  of(name: string): { result: string; said: string };
}

function read(code: number | null, text: string): Examined {
  const found = new Map<string, { result: string; lines: string[] }>();
  for (const line of text.trimEnd().split('\n')) {
    // Two columns of fixed width, then sentences.
    const result = line.slice(0, 8).trim();
    const name = line.slice(8, 22).trim();
    if (name !== '') found.set(name, { result, lines: [] });
    [...found.values()].at(-1)?.lines.push(line.slice(22));
  }
  return {
    code: code ?? -1,
    text,
    names: [...found.keys()],
    of: (name) => {
      const { result = 'missing', lines = [] } = found.get(name) ?? {};
      return { result, said: lines.join('\n') };
    },
  };
}

/** Runs `doctor` in this process. */
export async function examine(
  env: Environment,
  options: Omit<DoctorOptions, 'print'> = {},
): Promise<Examined> {
  let text = '';
  const source = { env: { SSH_KNOWN_HOSTS: '/nowhere/known_hosts', ...env }, directory: '/nowhere' };
  // A long time limit by default, because a check may be slow on a busy machine.
  const slow = { limitMs: 60_000, ...options };
  const code = await doctor({ ...slow, print: (more) => (text += more) }, source);
  return read(code, text);
}

export function examined({ code, stdout }: Ended): Examined {
  return read(code, stdout);
}

/** Asserts that a check failed with these reasons. */
export function isFailure(t: ExecutionContext, run: Examined, name: string, ...reasons: RegExp[]): void {
  t.is(run.code, 1, run.text);
  t.is(run.of(name).result, 'FAILED', run.text);
  for (const reason of reasons) t.regex(run.of(name).said, reason);
}
