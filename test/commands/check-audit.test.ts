import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { checkAudit } from '../../src/commands/check-audit.js';
import { auditStreamOf } from '../../src/rpc/queues.js';
import { rabbitmq } from '../support/brokers.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';
import { folder } from '../support/settings.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;
const options = () => ({
  queue: `queue_${randomUUID()}`,
  tls: undefined,
  settings: 'AMQP_URL',
  limitMs: 60_000,
});

test('a file is usable when lines can be appended to it, or it can be created', async (t) => {
  const directory = await folder(t);
  const path = join(directory, 'audit.jsonl');
  t.is((await checkAudit(path, [], options())).result, 'ok');
  await writeFile(path, '');
  t.is((await checkAudit(path, [], options())).result, 'ok');
  const none = await checkAudit(join(directory, 'missing', 'audit.jsonl'), [], options());
  t.is(none.result, 'FAILED');
  t.regex(none.lines.join('\n'), /ENOENT.*\n-> let the user of the service write/);
  t.is((await checkAudit(directory, [], options())).result, 'FAILED');
  t.is((await checkAudit('stderr', [], options())).result, 'ok');
});

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  test('a stream is usable when it exists, or the user may create it; nothing is created', async (t) => {
    const { broker } = t.context;
    const given = options();
    const stream = auditStreamOf(given.queue);
    const check = async (url: string) => checkAudit('stream', [{ url }], given);
    t.regex((await check(broker.url)).lines.join('\n'), /does not exist yet; the service will create it/);
    const mayNot = await broker.user('maynot', { configure: '^$' });
    const refused = await check(mayNot.url);
    t.is(refused.result, 'FAILED');
    t.regex(refused.lines.join('\n'), /ACCESS_REFUSED.*configure permission.*\n-> create the stream/);
    const connection = await broker.open();
    const channel = await connection.createChannel();
    await channel.assertQueue(stream, { durable: true, arguments: { 'x-queue-type': 'stream' } });
    await connection.close();
    t.regex((await check(mayNot.url)).lines.join('\n'), /exists/);
    t.is((await check('amqp://127.0.0.1:1')).result, 'FAILED');
    t.is((await checkAudit('stream', [], given)).result, 'skipped');
  });
}
