import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { startOwnBroker } from '../support/own-broker.js';
import { inRepository } from '../support/repository.js';
import { startWorker } from '../support/worker.js';
import { blocksOf } from './page-blocks.js';

/** Where the commands of the pages run: a RabbitMQ with its management plugin, a simulated cluster, and a service with a gateway. */
export interface DocumentWorld {
  /** The home of the reader, which has the programs of docs/callers.md. */
  directory: string;
  env: Readonly<Record<string, string>>;
  /** The URL of RabbitMQ. */
  amqpUrl: string;
  /** A text of a page with the addresses and tokens of this world. */
  replaced: (text: string) => string;
  /** Makes a command, which comes before others of its name. @param script for bash */
  command: (name: string, script: string) => Promise<void>;
}

const run = promisify(execFile);
/** The programs of docs/callers.md, by the language of their blocks. */
const PROGRAMS = {
  python: 'fleet_call.py',
  go: 'fleet_call.go',
  erlang: 'fleet_call.escript',
  elixir: 'fleet_call.exs',
};

export async function openDocumentWorld(t: {
  teardown: (teardown: () => unknown) => void;
}): Promise<DocumentWorld> {
  const sandbox = await startSandbox({ ssh: true });
  t.teardown(() => sandbox.stop());
  const { ssh, systemd } = sandbox;
  if (ssh === undefined || systemd === undefined) throw new Error('the sandbox has no SSH');
  const [port = '', management = ''] = (await run(inRepository('scripts/free-port'), ['2'])).stdout.split(
    '\n',
  );
  const { broker, remove } = await startOwnBroker(
    ['management.tcp.ip = 127.0.0.1', `management.tcp.port = ${management}`],
    { plugins: ['rabbitmq_management'] },
  );
  t.teardown(remove);
  const directory = await mkdtemp(join(tmpdir(), 'reader-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const bin = join(directory, 'bin');
  await mkdir(bin);
  const command = async (name: string, script: string) => {
    await writeFile(join(bin, name), `#!/bin/bash\n${script}\n`);
    await chmod(join(bin, name), 0o755);
  };
  const cli = new URL('../../src/cli.js', import.meta.url).pathname;
  await command('fleet-manager', `exec '${process.execPath}' '${cli}' "$@"`);
  // Debian's, which has Debian's packages.
  await command('python3', 'exec /usr/bin/python3 "$@"');
  await writeFile(
    join(directory, '.rabbitmqadmin.conf'),
    `[default]\nhostname = 127.0.0.1\nport = ${management}\nusername = guest\npassword = guest\n`,
  );
  for (const { language, text } of await blocksOf('docs/callers.md')) {
    const file = Object.entries(PROGRAMS).find(([name]) => name === language)?.[1];
    if (file !== undefined) await writeFile(join(directory, file), `${text}\n`);
  }
  const env = {
    PATH: `${bin}:${process.env.PATH}`,
    HOME: directory,
    LANG: 'C.UTF-8',
    AMQP_URL: broker.url,
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: `${sandbox.fleetPort}`,
    ALLOWED_HOSTS: '127.0.0.0/8',
    SSH_KEY_FILE: ssh.privateKeyFile,
    SSH_KNOWN_HOSTS: ssh.knownHostsFile,
    SSH_PORT: `${ssh.port}`,
    SSH_USER: ssh.user,
    SSH_SUDO: 'true',
    // As docs/callers.md says, for Debian's package.
    GO111MODULE: 'off',
    GOPATH: '/usr/share/gocode',
    GOCACHE: join(directory, '.go-cache'),
  };
  // For changes with a key.
  const claims: Record<string, string> =
    process.env.ETCD_URL === undefined ? {} : { CLAIMS_ETCD_URL: process.env.ETCD_URL };
  const clusters = join(directory, 'clusters-of-the-service.json');
  const machines = systemd.machines.map(({ primaryIP: host, metadata }) => ({ host, metadata }));
  await writeFile(clusters, JSON.stringify({ [systemd.name]: { kind: 'systemd', machines } }));
  await startWorker(t, { ...env, ...claims, CLUSTERS_FILE: clusters, HTTP_PORT: port });
  const replacements: readonly (readonly [RegExp, string])[] = [
    [/amqp:\/\/user:password@rabbitmq:5672/g, broker.url],
    [/http:\/\/127\.0\.0\.1:8080/g, `http://127.0.0.1:${port}`],
    [/\b10\.0\.0\.(\d)\b/g, '127.0.0.$1'],
    [/\bTOKEN\b/g, sandbox.token],
  ];
  return {
    directory,
    // A service that a block starts has a port of its own.
    env: { ...env, HTTP_PORT: '0' },
    amqpUrl: broker.url,
    replaced: (text) => replacements.reduce((changed, [from, to]) => changed.replace(from, to), text),
    command,
  };
}
