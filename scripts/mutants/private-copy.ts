import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

/** How a run of tests ended. */
export interface TestRun {
  /** `hung`: it gave no result for too long, and was killed. */
  outcome: 'passed' | 'failed' | 'hung';
  seconds: number;
  /** The title of the test that failed first. */
  failure: string | undefined;
  output: string;
}

/** The line of a failed test in the Test Anything Protocol. */
const FAILURE = /^not ok \d+ - (.*)\n/m;

/** Time for tests that are told to stop to end what they started. */
const STOP_MS = 5_000;

/** A copy of the repository in a folder of its own, in which files are changed and tests are run. */
export class PrivateCopy {
  readonly folder: string;
  readonly #root: string;

  private constructor(root: string, folder: string) {
    this.#root = root;
    this.folder = folder;
  }

  /** @param root the folder of the repository; only its `node_modules` is shared */
  static async make(root: string): Promise<PrivateCopy> {
    const copy = new PrivateCopy(root, await mkdtemp(join(tmpdir(), 'mutants-')));
    const left = new Set(['.git', 'node_modules', 'build', 'dist']);
    await cp(root, copy.folder, {
      recursive: true,
      filter: (path) => path === root || !left.has(basename(path)),
    });
    await symlink(join(root, 'node_modules'), join(copy.folder, 'node_modules'));
    await mkdir(join(copy.folder, 'tmp'));
    return copy;
  }

  async write(file: string, text: string): Promise<void> {
    await writeFile(join(this.folder, file), text);
  }

  /** Writes the repository's own text of a file again. */
  async restore(file: string): Promise<void> {
    await this.write(file, await readFile(join(this.#root, file), 'utf8'));
  }

  /** Compiles what was written, for the tests that are run then. */
  async compile(): Promise<void> {
    const tsc = join(this.#root, 'node_modules/.bin/tsc');
    await promisify(execFile)(tsc, ['-p', 'tsconfig.test.json'], { cwd: this.folder });
  }

  /** The test files whose path begins with one of the texts, sorted. */
  async testFiles(beginnings: readonly string[]): Promise<string[]> {
    const files = await readdir(join(this.folder, 'test'), { recursive: true });
    return files
      .map((file) => `test/${file}`)
      .filter((file) => file.endsWith('.test.ts') && beginnings.some((each) => file.startsWith(each)))
      .toSorted();
  }

  /**
   * Runs a test file, and stops at the first failure.
   * @param silenceMs how long the run may take from one result to the next
   * @param signal ends the run; then it throws the signal's reason
   */
  async test(file: string, silenceMs: number, signal: AbortSignal): Promise<TestRun> {
    const from = performance.now();
    const ava = join(this.#root, 'node_modules/ava/entrypoints/cli.mjs');
    const child = spawn(process.execPath, [ava, '--tap', '--fail-fast', file], {
      cwd: this.folder,
      env: {
        ...process.env,
        TMPDIR: join(this.folder, 'tmp'),
        FORCE_COLOR: '0',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that everything that the tests started can be ended.
      detached: true,
    });
    let isEnding = false;
    const end = () => {
      if (isEnding) return;
      isEnding = true;
      killGroup(child.pid, 'SIGTERM');
      setTimeout(() => killGroup(child.pid, 'SIGKILL'), STOP_MS).unref();
    };
    let output = '';
    let hung = false;
    const silence = setTimeout(() => {
      hung = true;
      end();
    }, silenceMs);
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        silence.refresh();
        // The other tests of the file may wait very long for what the mistake prevents.
        if (FAILURE.test(output)) end();
      });
    signal.addEventListener('abort', end, { once: true });
    try {
      await once(child, 'exit');
    } finally {
      signal.removeEventListener('abort', end);
      clearTimeout(silence);
      killGroup(child.pid, 'SIGKILL');
    }
    signal.throwIfAborted();
    const failure = FAILURE.exec(output)?.[1];
    const outcome = hung ? 'hung' : child.exitCode === 0 ? 'passed' : 'failed';
    return { outcome, seconds: (performance.now() - from) / 1000, failure, output };
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // The whole group has ended.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
