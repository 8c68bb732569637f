import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { deflateSync } from 'node:zlib';
import test from 'ava';
import { atomKeys } from '../../src/rpc/codec/erlang-atom.js';
import { encodeTerm } from '../../src/rpc/codec/erlang-encode.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { RawCaller } from '../support/requests.js';
import { startWorker } from '../support/worker.js';

const MEBIBYTE = 1024 * 1024;
const MESSAGES = 40;

const broker = rabbitmq();
if (broker !== undefined) {
  test('a worker with a small heap answers many small messages that inflate to 16 MiB each', async (t) => {
    // No cluster is found until the worker has reached its limit, so that it holds what it has decoded.
    const found = new AbortController();
    const discovery = createServer((_request, response) => {
      const answer = () => response.writeHead(404).end();
      if (found.signal.aborted) answer();
      else found.signal.addEventListener('abort', answer);
    }).listen(0, '127.0.0.1');
    await once(discovery, 'listening');
    t.teardown(() => discovery.close());
    const queue = `test_${randomUUID()}`;
    const worker = await startWorker(t, {
      NODE_OPTIONS: '--max-old-space-size=256',
      NODE_ENV: 'production',
      AMQP_URL: broker.url,
      QUEUE_NAME: queue,
      ETCD_DISCOVERY_URL: `http://127.0.0.1:${(discovery.address() as AddressInfo).port}`,
      PREFETCH: '1000',
      MAX_MESSAGE_BYTES: String(17 * MEBIBYTE),
      MAX_ANSWER_BYTES: String(MEBIBYTE),
      MEMORY_BUDGET_BYTES: String(128 * MEBIBYTE),
    });
    const caller = await RawCaller.open(t, broker, queue);
    const term = encodeTerm(
      atomKeys({
        // One character beyond Latin-1: decoded, the text takes two bytes for each.
        queue_name: `€${'x'.repeat(16 * MEBIBYTE)}`,
        request_body: { action: 'list_machines', etcd_token: 'TOKEN' },
      }),
    );
    const head = Buffer.from([131, 80, 0, 0, 0, 0]);
    head.writeUInt32BE(term.length - 1, 2);
    const bomb = Buffer.concat([head, deflateSync(term.subarray(1))]);
    t.true(bomb.length < 20_000);
    const ids = Array.from({ length: MESSAGES }, () => caller.sendRaw(bomb));
    const dead = worker.ended.then((code) => {
      throw new Error(`the worker ended with ${code}`);
    });
    const lines = (phrase: string) => worker.lines.filter(({ message }) => message === phrase);
    await Promise.race([dead, eventually('it waits', () => lines('memory budget used up').length > 0)]);
    found.abort();
    const answered = () => ids.every((id) => caller.repliesFor(id).length === 1);
    await Promise.race([dead, eventually('all are answered', answered)]);
    t.is(await caller.waiting('error queue'), 0);
    await eventually('all are logged', () => lines('request failed').length === MESSAGES);
    await eventually('the memory is free again', () => lines('memory budget free again').length > 0);
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 0);
  });
}
