/** On what the benchmark ran: the machine, the versions, and the commit. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { connect } from 'amqplib';

const ROOT = new URL('../', import.meta.url);
/** The packages whose speed is compared; a peer only if it is installed. */
const PACKAGES = {
  amqplib: 'node_modules/amqplib',
  moleculer: 'bench/peers/node_modules/moleculer',
  '@nestjs/microservices': 'bench/peers/node_modules/@nestjs/microservices',
};

export interface Surroundings {
  machine: { cpu: string; cores: number; memoryGiB: number; kernel: string };
  versions: Record<string, string>;
  /** With `+changes` when files differ from it. */
  commit: string;
}

export async function surroundings(brokerUrl: string): Promise<Surroundings> {
  const processors = cpus();
  return {
    machine: {
      cpu: processors[0]?.model ?? 'unknown',
      cores: processors.length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      kernel: release(),
    },
    versions: { node: process.version, ...(await brokerVersions(brokerUrl)), ...packageVersions() },
    commit: commit(),
  };
}

/** A broker tells them when a client connects. */
async function brokerVersions(url: string): Promise<Record<string, string>> {
  const connection = await connect(url);
  const { product, version, platform } = connection.connection.serverProperties;
  await connection.close();
  return { [product.toLowerCase()]: version, erlang: platform.replace('Erlang/OTP ', '') };
}

function packageVersions(): Record<string, string> {
  const files = Object.entries(PACKAGES).map(
    ([name, folder]) => [name, new URL(`${folder}/package.json`, ROOT)] as const,
  );
  return Object.fromEntries(
    files
      .filter(([, file]) => existsSync(file))
      .map(([name, file]) => [name, String(JSON.parse(readFileSync(file, 'utf8')).version)]),
  );
}

function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
  const changes = git('status', '--porcelain', '--untracked-files=no');
  return `${git('rev-parse', '--short', 'HEAD')}${changes === '' ? '' : '+changes'}`;
}
