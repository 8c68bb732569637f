/** Other RPC servers on RabbitMQ, in the packages of `bench/peers/`, called in their own protocols without their clients. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Caller } from './support.js';
import { endWithThisProcess } from './support.js';

const FOLDER = new URL('peers/', import.meta.url);
const NUMBER = 42;

export interface Peer {
  name: string;
  queue: string;
  process: ChildProcess;
  /** One request, to the end of its reply. Throws when the reply is not the expected one. */
  call: () => Promise<void>;
}

/** Installs their packages the first time. */
export async function startPeers(caller: Caller, url: string): Promise<Peer[]> {
  if (!existsSync(new URL('node_modules', FOLDER)))
    execFileSync('npm', ['ci', '--ignore-scripts', '--prefix', FOLDER.pathname], { stdio: 'inherit' });
  return [await startMoleculer(caller, url), startNest(caller, url)];
}

function startNest(caller: Caller, url: string): Peer {
  const queue = 'bench_nest';
  const body = Buffer.from(JSON.stringify({ pattern: 'ping', data: { number: NUMBER }, id: 'bench' }));
  const call = async () => {
    const reply = await caller.send(queue, body, { contentType: 'application/json', persistent: true });
    if (!reply.includes(`"response":{"number":${NUMBER}}`))
      throw new Error(`NestJS replied ${reply.toString()}`);
  };
  return { name: 'NestJS RMQ', queue, process: start('nest-server.js', url, queue), call };
}

/** Its replies go to a queue of the caller's node, and have the request's id in the body only. */
async function startMoleculer(caller: Caller, url: string): Promise<Peer> {
  const node = 'bench_caller';
  const queue = 'MOL.REQB.bench.ping';
  const waiting = new Map<string, (reply: { success: boolean; data: unknown }) => void>();
  const { channel } = caller;
  const { queue: replies } = await channel.assertQueue(`MOL.RES.${node}`, { exclusive: true });
  await channel.consume(
    replies,
    (message) => {
      if (message === null) return;
      const reply = JSON.parse(message.content.toString());
      waiting.get(reply.id)?.(reply);
    },
    { noAck: true },
  );
  const rest = JSON.stringify({
    ver: '4',
    sender: node,
    action: 'bench.ping',
    params: { number: NUMBER },
    meta: {},
    timeout: 0,
    level: 1,
    tracing: null,
    parentID: null,
    requestID: null,
    caller: null,
    stream: false,
  }).slice(1);
  let sent = 0;
  const call = async () => {
    const id = String(++sent);
    const answered = new Promise<{ success: boolean }>((resolve) => waiting.set(id, resolve));
    channel.publish('', queue, Buffer.from(`{"id":"${id}",${rest}`), { persistent: true });
    const reply = await answered;
    waiting.delete(id);
    if (!reply.success) throw new Error(`Moleculer replied ${JSON.stringify(reply)}`);
  };
  return { name: 'Moleculer AMQP', queue, process: start('moleculer-server.js', url), call };
}

function start(server: string, ...args: string[]): ChildProcess {
  const file = new URL(server, FOLDER).pathname;
  return endWithThisProcess(spawn('node', [file, ...args], { stdio: ['ignore', 'ignore', 'inherit'] }));
}
