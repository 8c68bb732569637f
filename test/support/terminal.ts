import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext, type Implementation } from 'ava';
import { eventually } from './eventually.js';

const run = promisify(execFile);

/** A terminal of tmux. */
export interface Terminal {
  /** What it shows, without empty lines at its end. */
  screen(): Promise<string>;
  /** The same with the escape sequences of its colours. */
  colours(): Promise<string>;
  /** Waits until its text matches. @returns the text */
  shows(pattern: RegExp): Promise<string>;
  /** Types text and keys such as `C-c` and `Tab`, by their names in tmux. */
  type(...keys: string[]): Promise<void>;
}

export interface TerminalOptions {
  columns: number;
  env: Record<string, string>;
  /** The program, by default a shell that runs `command` and then prints `[exit code]`. */
  program?: readonly string[];
}

/**
 * Registers a test that needs these programs. Without one it is skipped with a notice on standard error; with REQUIRE_SERVICES=1 it
 * fails.
 */
export function testWithPrograms(
  programs: readonly string[],
  title: string,
  implementation: Implementation<[]>,
): void {
  const missing = programs.filter(
    (each) => !(process.env.PATH ?? '').split(':').some((path) => existsSync(join(path, each))),
  );
  if (missing.length === 0 || process.env.REQUIRE_SERVICES === '1') test(title, implementation);
  else
    process.stderr.write(
      `skipped: ${title} (not installed: ${missing.join(', ')}; see scripts/install-services)\n`,
    );
}

/** The exit code of a command. */
const ENDED = /^\[\d+\]$/m;

/** Opens a terminal that runs a command of a shell, and prints its exit code when it ends. It is closed when the test ends. */
export async function openTerminal(
  t: ExecutionContext,
  command: string,
  { columns, env, program = ['bash', '-c', `trap : INT; ${command}\necho "[$?]"`] }: TerminalOptions,
): Promise<Terminal> {
  const folder = await mkdtemp(join(tmpdir(), 'terminal-'));
  const surroundings = {
    PATH: env.PATH ?? process.env.PATH,
    TMUX_TMPDIR: folder,
    LC_ALL: 'C.UTF-8',
    HOME: folder,
    HISTFILE: '/dev/null',
  };
  const tmux = async (...args: string[]) =>
    (await run('tmux', ['-u', '-f', '/dev/null', ...args], { env: surroundings })).stdout;
  const given = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  const size = ['-x', String(columns), '-y', '50'];
  await tmux(
    'new-session',
    '-d',
    ...size,
    ...given,
    '-c',
    folder,
    ...program,
    ';',
    'set',
    '-g',
    'remain-on-exit',
    'on',
  );
  t.teardown(async () => {
    await tmux('kill-server');
    // Programs of the terminal end after it.
    await rm(folder, { recursive: true, maxRetries: 10 });
  });
  const capture = async (...options: string[]) =>
    // With what has scrolled out of it, such as by the line that tells of the end.
    (await tmux('capture-pane', '-p', '-S', '-', ...options)).replace(/\nPane is dead.*$/s, '').trimEnd();
  const screen = async () => capture();
  return {
    screen,
    colours: async () => capture('-e'),
    shows: async (pattern) => {
      let last = '';
      try {
        return await eventually(
          `a terminal that shows ${pattern}`,
          async () => {
            last = await screen();
            if (pattern.test(last)) return last;
            if (ENDED.test(last)) throw new Error(`the command has ended without ${pattern}`);
            return undefined;
          },
          // Each look starts a process.
          { everyMs: 50 },
        );
      } catch (error) {
        throw new Error(`it shows\n${last}`, { cause: error });
      }
    },
    type: async (...keys) => void (await tmux('send-keys', ...keys)),
  };
}
