import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { planted } from './planted-secrets.js';
import { eventually } from './eventually.js';
import { noteSkipped } from './note-skipped.js';
import { inRepository } from './repository.js';

/** A separate etcd, which a test can stop and start. */
export interface OwnEtcd {
  url: string;
  /** The certificate authority of its certificate; undefined: it serves plain HTTP. */
  ca: Buffer | undefined;
  /** Starts it (again); resolves when it serves. Its data is kept. */
  start(): Promise<void>;
  /** Kills it; its data is kept. */
  stop(): Promise<void>;
  /** Lets it answer nothing until `thaw`. */
  freeze(): void;
  thaw(): void;
  /** Sends a request to its JSON gateway. @returns the response */
  post(path: string, body: object, authorization?: string): Promise<Record<string, unknown>>;
}

const run = promisify(execFile);

/** Whether an etcd is there to be started; noted as skipped where not. */
export const hasEtcd =
  (process.env.ETCD_URL ?? noteSkipped('the tests with their own etcd', 'ETCD_URL')) !== undefined;

/** Starts one that goes with the test. @param options `tls`: it serves https with a certificate of an authority of its own */
export async function ownEtcd(t: ExecutionContext, { tls = false } = {}): Promise<OwnEtcd> {
  const folder = await mkdtemp(join(process.env.SERVERS_FOLDER ?? tmpdir(), 'etcd-'));
  t.teardown(async () => rm(folder, { recursive: true, force: true }));
  const { stdout: ports } = await run(inRepository('scripts/free-port'), ['2']);
  const [port, peerPort] = ports.trim().split('\n');
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${port}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const certificate = tls ? await certificateIn(folder) : [];
  const { stdout: architecture } = await run('dpkg', ['--print-architecture']);
  let etcd: ReturnType<typeof spawn> | undefined;
  let ended: Promise<unknown> = Promise.resolve();
  const stop = async () => {
    etcd?.kill('SIGKILL');
    await ended;
  };
  t.teardown(stop);
  const start = async () => {
    etcd = spawn(
      'etcd',
      [
        '--name=own',
        `--data-dir=${join(folder, 'data')}`,
        `--initial-cluster=own=${peerUrl}`,
        `--listen-client-urls=${url}`,
        `--advertise-client-urls=${url}`,
        `--listen-peer-urls=${peerUrl}`,
        `--initial-advertise-peer-urls=${peerUrl}`,
        ...certificate,
      ],
      { stdio: 'ignore', env: { PATH: process.env.PATH, ETCD_UNSUPPORTED_ARCH: architecture.trim() } },
    );
    const exited = once(etcd, 'exit');
    ended = exited;
    const failed = exited.then(() => {
      throw new Error('etcd ended instead of serving');
    });
    failed.catch(() => {});
    await Promise.race([failed, eventually('etcd serves', async () => serves(url))]);
  };
  await start();
  return {
    url,
    ca: tls ? await readFile(join(folder, 'ca.pem')) : undefined,
    start,
    stop,
    freeze: () => void etcd?.kill('SIGSTOP'),
    thaw: () => void etcd?.kill('SIGCONT'),
    post: async (path, body, authorization) => {
      const response = await fetch(`${url}/v3/${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
        ...(authorization !== undefined && { headers: { authorization } }),
      });
      return (await response.json()) as Record<string, unknown>;
    },
  };
}

/** Turns authentication on: the user `worker` may use only the keys of the service. */
export async function withUser(etcd: OwnEtcd): Promise<{ user: string; password: string }> {
  const password = planted('etcd-password');
  const text = (value: string) => Buffer.from(value).toString('base64');
  for (const [path, body] of [
    ['auth/user/add', { name: 'root', password: 'root' }],
    ['auth/role/add', { name: 'root' }],
    ['auth/user/grant', { user: 'root', role: 'root' }],
    ['auth/user/add', { name: 'worker', password }],
    ['auth/role/add', { name: 'fleet' }],
    [
      'auth/role/grant',
      {
        name: 'fleet',
        perm: { permType: 'READWRITE', key: text('/fleet-manager/'), range_end: text('/fleet-manager0') },
      },
    ],
    ['auth/user/grant', { user: 'worker', role: 'fleet' }],
    ['auth/enable', {}],
  ] as const) {
    const response = await etcd.post(path, body);
    if ('error' in response) throw new Error(`${path}: ${JSON.stringify(response)}`);
  }
  return { user: 'worker', password };
}

async function serves(url: string): Promise<boolean> {
  const get = url.startsWith('https') ? httpsGet : httpGet;
  return new Promise((resolve) => {
    get(`${url}/health`, { rejectUnauthorized: false }, (response) => {
      let body = '';
      response.on('data', (chunk) => (body += String(chunk)));
      response.on('end', () => resolve(body.includes('"health":"true"')));
    }).on('error', () => resolve(false));
  });
}

/** Makes an authority, and a certificate for 127.0.0.1. @returns the options of etcd */
async function certificateIn(folder: string): Promise<string[]> {
  const at = (name: string) => join(folder, name);
  const openssl = async (line: string) => run('openssl', line.split(' '));
  const key = '-newkey rsa:2048 -nodes -days 2';
  await openssl(`req -x509 ${key} -subj /CN=authority -keyout ${at('ca.key')} -out ${at('ca.pem')}`);
  // The gateway of etcd is a client of etcd by the same certificate.
  const uses = '-addext subjectAltName=IP:127.0.0.1 -addext extendedKeyUsage=serverAuth,clientAuth';
  await openssl(`req ${key} -subj /CN=etcd ${uses} -keyout ${at('etcd.key')} -out ${at('etcd.csr')}`);
  const authority = `-CA ${at('ca.pem')} -CAkey ${at('ca.key')} -CAcreateserial`;
  await openssl(
    `x509 -req -in ${at('etcd.csr')} ${authority} -copy_extensions copyall -days 2 -out ${at('etcd.pem')}`,
  );
  return [`--cert-file=${at('etcd.pem')}`, `--key-file=${at('etcd.key')}`];
}
