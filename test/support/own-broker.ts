import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import type { ExecutionContext } from 'ava';
import { eventually } from './eventually.js';

/** A separate RabbitMQ for one test, which can stop and start it. */
export interface OwnBroker {
  url: string;
  port: number;
  /** Starts it (again); resolves when it serves. Durable objects are kept. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

const SCRIPTS = new URL('../../scripts/', import.meta.url).pathname;

/** Starts one that goes with the test. */
export async function ownBroker(t: ExecutionContext): Promise<OwnBroker> {
  const directory = await mkdtemp(join(tmpdir(), 'rabbitmq-'));
  const { stdout } = await promisify(execFile)(join(SCRIPTS, 'free-port'));
  const port = Number(stdout);
  const url = `amqp://guest:guest@127.0.0.1:${port}`;
  let stop = async () => {};
  t.teardown(async () => {
    await stop();
    await rm(directory, { recursive: true, force: true });
  });
  const start = async () => {
    const rabbitmq = spawn(join(SCRIPTS, 'rabbitmq'), [directory, String(port)], { stdio: 'ignore' });
    const exited = once(rabbitmq, 'exit');
    stop = async () => {
      rabbitmq.kill('SIGTERM');
      await exited;
    };
    const ended = exited.then(() => {
      throw new Error('RabbitMQ ended instead of starting');
    });
    ended.catch(() => {});
    await Promise.race([ended, eventually('RabbitMQ serves', () => serves(url))]);
  };
  await start();
  return { url, port, start, stop: () => stop() };
}

async function serves(url: string): Promise<boolean> {
  return connect(url).then(
    async (connection) => connection.close().then(() => true),
    () => false,
  );
}
