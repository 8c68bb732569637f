import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type RunningCli, startProgram } from '../commands/cli-process.js';
import { blocksOf } from './page-blocks.js';

export interface FollowOptions {
  /** The folder in which a reader begins. */
  directory: string;
  env: Record<string, string>;
  /** Texts that a reader replaces, by what the reader writes. */
  replace: Readonly<Record<string, string>>;
}

/**
 * Does what a page tells its reader, block by block, in one folder after the other: runs the commands of `sh` blocks, and writes `js`
 * and `ts` blocks to the file that their first line names. A command `serve` goes on until the next one.
 * @returns how many blocks there were
 * @throws Error that names the line of a block that fails, or that cannot be followed
 */
export async function followPage(
  t: Pick<ExecutionContext, 'teardown'>,
  page: string,
  { directory, env, replace }: FollowOptions,
): Promise<number> {
  const reader = new Reader(t, directory, env);
  const blocks = await blocksOf(page);
  for (const { line, language, text } of blocks) {
    const written = Object.entries(replace).reduce(
      (all, [from, to]) => all.replaceAll(from, to),
      `${text}\n`,
    );
    await reader.follow(language, written).catch((cause: unknown) => {
      throw new Error(`${page}:${line} does not work`, { cause });
    });
  }
  await reader.stopService();
  return blocks.length;
}

class Reader {
  readonly #t: Pick<ExecutionContext, 'teardown'>;
  readonly #env: Record<string, string>;
  /** Where a command writes in which folder it has ended. */
  readonly #where: string;
  #directory: string;
  #service: RunningCli | undefined;

  constructor(t: Pick<ExecutionContext, 'teardown'>, directory: string, env: Record<string, string>) {
    this.#t = t;
    this.#directory = directory;
    this.#where = join(directory, '.where');
    this.#env = { ...env };
  }

  async follow(language: string, text: string): Promise<void> {
    if (language === 'sh') return this.#run(text);
    const [, file] = /^\/\/ (\S+)\n/.exec(text) ?? [];
    if (!['js', 'ts'].includes(language) || file === undefined)
      throw new Error(`nothing runs a block of ${language || 'no language'} that names no file`);
    await mkdir(dirname(join(this.#directory, file)), { recursive: true });
    await writeFile(join(this.#directory, file), text);
  }

  async stopService(): Promise<void> {
    this.#service?.kill('SIGTERM');
    await this.#service?.ended;
    this.#service = undefined;
  }

  async #run(commands: string): Promise<void> {
    const [, before = '', settings] = /^((?:.*\n)*)(.*)npx fleet-manager serve\n$/.exec(commands) ?? [];
    if (settings !== undefined) {
      if (before !== '') await this.#run(before);
      return this.#serve(settings);
    }
    const { code, stdout, stderr } = await this.#start(`set -e\n${commands}\npwd > "$WHERE"`).ended;
    if (code !== 0) throw new Error(`${commands}\n${stdout}\n${stderr}`);
    this.#directory = (await readFile(this.#where, 'utf8')).trim();
  }

  /** @param settings such as `A=b ` */
  async #serve(settings: string): Promise<void> {
    await this.stopService();
    // Not by npx, which ends before the service does.
    const service = this.#start(`HTTP_PORT=0 ${settings} exec node_modules/.bin/fleet-manager serve`);
    this.#service = service;
    const [, url = ''] = await service.printed(/^ {2}gateway +(http:\S+)$/m);
    await service.printed(/accepting requests/);
    this.#env.HTTP_PORT = new URL(url).port;
  }

  #start(commands: string): RunningCli {
    const env = { ...this.#env, WHERE: this.#where };
    return startProgram(this.#t, ['sh', '-c', commands], { env, directory: this.#directory });
  }
}
