import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { noteImpossible } from '../support/note-skipped.js';
import { inRepository } from '../support/repository.js';

const NOT_INSTALLED = 69;
const NOT_HERE = 77;

/** The image of the Dockerfile, unpacked. */
export interface Image {
  /** The folder of its files. */
  root: string;
  /** What a container runtime runs it with. */
  config: ImageConfig;
  remove(): Promise<void>;
}

export interface ImageConfig {
  user: string;
  directory: string;
  /** The program and its arguments. */
  command: readonly string[];
  env: Readonly<Record<string, string>>;
  /** The program of the health check; `CMD` apart. */
  health: readonly string[];
}

/**
 * Builds the image on this machine's Node.js. Undefined, and reported, where that cannot be done; with REQUIRE_SERVICES=1 it
 * is an error when only an installation is missing.
 */
export async function buildImage(): Promise<Image | undefined> {
  const folder = await mkdtemp(join(process.env.SERVERS_FOLDER ?? tmpdir(), 'image-'));
  const remove = async () => rm(folder, { recursive: true, force: true });
  try {
    await promisify(execFile)(inRepository('scripts/image'), [folder]);
    const { Docker } = fieldsOf(JSON.parse(await readFile(join(folder, 'image.json'), 'utf8')));
    return { root: join(folder, 'root'), config: configIn(fieldsOf(Docker).config), remove };
  } catch (error) {
    await remove();
    const { code, stderr } = fieldsOf(error);
    if (code !== NOT_HERE && (code !== NOT_INSTALLED || process.env.REQUIRE_SERVICES === '1')) throw error;
    noteImpossible('the image', String(stderr).trim());
    return undefined;
  }
}

/** @param config as Docker's image format has it */
function configIn(config: unknown): ImageConfig {
  const { User, WorkingDir, Entrypoint, Cmd, Env, Healthcheck } = fieldsOf(config);
  const [kind, ...health] = texts(fieldsOf(Healthcheck).Test);
  if (kind !== 'CMD') throw new Error('the image has no health check that runs without a shell');
  return {
    user: String(User),
    directory: String(WorkingDir),
    command: [...texts(Entrypoint), ...texts(Cmd)],
    env: Object.fromEntries(texts(Env).map((each) => each.split(/=(.*)/s))),
    health,
  };
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
