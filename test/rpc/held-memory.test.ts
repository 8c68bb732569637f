import { deflateSync } from 'node:zlib';
import test from 'ava';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { atomKeys } from '../../src/rpc/codec/erlang-atom.js';
import { encodeTerm } from '../../src/rpc/codec/erlang-encode.js';
import { jsonRequestCodec } from '../../src/rpc/codec/json.js';
import { doing, echo, held } from '../support/actions.js';
import { brokers, cuttable } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { RawCaller, serveRequests } from '../support/requests.js';

const MEBIBYTE = 1024 * 1024;
const codecs = [jsonRequestCodec, new ErlangCodec({ inflatedBytes: MEBIBYTE })];
const maxMessageBytes = MEBIBYTE;
/** Room to decode one large message, but not two. All could run at once. */
const SMALL_BUDGET = { memoryBudgetBytes: 32 * MEBIBYTE, maxMessageBytes, clusterConcurrency: 50 };
const LARGE = { action: 'act', action_parameters: { text: 'x'.repeat(900_000) } };

function compressed(term: Buffer, declared = term.length - 1): Buffer {
  const head = Buffer.from([131, 80, 0, 0, 0, 0]);
  head.writeUInt32BE(declared, 2);
  return Buffer.concat([head, deflateSync(term.subarray(1))]);
}

const request = (parameters: object) =>
  encodeTerm(atomKeys({ request_body: { action: 'echo', action_parameters: parameters } }));

for (const broker of brokers()) {
  const over = (title: string) => `${title} (${broker.name})`;

  test(over('requests that need more memory than there is wait, and each is answered'), async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, service, logs } = await serveRequests(t, broker, [action], SMALL_BUDGET);
    const caller = await RawCaller.open(t, broker, queue);
    const ids = Array.from({ length: 30 }, () => caller.send(LARGE));
    await eventually('the memory is used up', () => logs.find(/^memory budget used up$/).length > 0);
    await eventually('all have arrived', () => service.held === 30);
    await eventually('the first one runs', () => begun() > 0);
    t.true(begun() < 30, `${begun()} run`);
    t.deepEqual(service.notReady(), [], 'a full memory passes, so the service stays ready');
    await eventually('all are answered', () => {
      finishRun();
      return ids.every((id) => caller.repliesFor(id).length === 1);
    });
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 30);
    t.is(logs.find(/^memory budget used up$/).length, logs.find(/^memory budget free again$/).length);
  });

  test(over('requests that wait for memory longer than their time are not run'), async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const clock = new ManualClock();
    const { queue, service, logs } = await serveRequests(t, broker, [action], { ...SMALL_BUDGET, clock });
    const caller = await RawCaller.open(t, broker, queue);
    const headers = { 'timeout-ms': 20_000 };
    const ids = Array.from({ length: 30 }, () => caller.send(LARGE, { headers }));
    await eventually('the memory is used up', () => logs.find(/^memory budget used up$/).length > 0);
    await eventually('all have arrived', () => service.held === 30);
    await eventually('the first one runs', () => begun() > 0);
    const running = begun();
    clock.advance(20_000);
    finishRun();
    const replies = await Promise.all(ids.map(async (id) => caller.replyFor(id)));
    t.is(begun(), running);
    t.deepEqual(
      replies.slice(running).map(({ answer }) => answer.response_body.code),
      Array(30 - running).fill('timeout'),
    );
  });

  test(over('requests that wait for memory are requeued when the service stops'), async (t) => {
    const { action, begun, finishRun } = held();
    const { queue, service, logs } = await serveRequests(t, broker, [action], SMALL_BUDGET);
    const caller = await RawCaller.open(t, broker, queue);
    for (let n = 0; n < 30; n++) caller.send(LARGE);
    await eventually('the memory is used up', () => logs.find(/^memory budget used up$/).length > 0);
    await eventually('all have arrived', () => service.held === 30);
    await eventually('the first one runs', () => begun() > 0);
    const running = begun();
    const drained = service.drain(600_000);
    await eventually('the others are held no more', () => service.held === running);
    // The embedded broker counts unacknowledged messages too.
    t.true((await caller.waiting()) >= 30 - running);
    finishRun();
    t.true(await drained);
    t.is(begun(), running);
  });

  test(
    over('requests that wait for memory and may have begun elsewhere stay so when the service stops'),
    async (t) => {
      const { action, begun, finishRun } = held();
      const { connect, cut } = cuttable(broker);
      const served = await serveRequests(t, { ...broker, connect }, [action], SMALL_BUDGET);
      const { queue, service, logs } = served;
      const caller = await RawCaller.open(t, broker, queue);
      for (let n = 0; n < 10; n++) caller.send(LARGE);
      await eventually('all have arrived', () => service.held === 10);
      await eventually('the first one runs', () => begun() > 0);
      const running = begun();
      cut();
      await eventually('the connection is back', () => logs.find(/^broker connection restored$/).length > 0);
      await eventually('all have arrived again', () => service.held === running + 10);
      const drained = service.drain(600_000);
      const message = await caller.take('queue');
      t.true(message.fields.redelivered);
      t.is(message.properties.headers?.['x-requeued'], undefined);
      finishRun();
      await drained;
      t.is(begun(), running);
    },
  );

  test(over('a compressed request counts with its inflated size, before it is inflated'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo], { codecs, maxMessageBytes });
    const caller = await RawCaller.open(t, broker, queue);
    const bomb = compressed(request({ text: 'x'.repeat(2 * MEBIBYTE) }));
    t.true(bomb.length < 10_000);
    for (const [body, reason] of [
      [bomb, /has 2097\d{3} bytes when it is decompressed, and MAX_MESSAGE_BYTES is 1048576/],
      [compressed(request({ text: 'x'.repeat(2 * MEBIBYTE) }), 1_000), /larger than it declares/],
      [compressed(request({}), 0xffffffff), /has 4294967295 bytes when it is decompressed/],
    ] as const) {
      const { message } = await rawReply(caller, body);
      t.regex(message, reason);
      t.regex(String((await caller.take('error queue')).properties.headers?.['x-reason']), reason);
    }
  });

  test(over('storms of long integers are refused before they are built'), async (t) => {
    const { queue } = await serveRequests(t, broker, [echo], { codecs, maxMessageBytes });
    const caller = await RawCaller.open(t, broker, queue);
    const long = Buffer.concat([Buffer.from('6f0000040000', 'hex'), Buffer.alloc(1024, 0xff)]);
    const list = Buffer.alloc(5, 108);
    list.writeUInt32BE(500, 1);
    const term = Buffer.concat([
      Buffer.from([131]),
      list,
      ...Array.from({ length: 500 }, () => long),
      Buffer.from([106]),
    ]);
    for (const [body, reason] of [
      [term, /an integer has more than 64 bytes/],
      [compressed(term), /an integer has more than 64 bytes/],
      [`{"request_body":{"list":[${Array(500).fill('9'.repeat(1_000)).join()}]}}`, /more than 155 digits/],
      [`{"request_body":{"list":[${'1,'.repeat(100_000)}1]}}`, /more than 100000 values and keys/],
      ['{"request_body":{"number":1e999999}}', /beyond the range/],
    ] as const)
      t.regex((await rawReply(caller, body)).message, reason);
  });

  test(
    over('a result with an integer that is too long is an internal error, and the log names its place'),
    async (t) => {
      const action = doing(async () => ({ units: [{ size: 1 }, { size: 2n ** 100_000n }] }));
      const { queue, logs } = await serveRequests(t, broker, [action], { codecs });
      const caller = await RawCaller.open(t, broker, queue);
      const { answer } = await caller.ask({ action: 'act' });
      t.is(answer.response_body.code, 'internal');
      const error = logs.find(/^action failed unexpectedly$/)[0]?.error;
      t.regex(String(error), /result\.units\[1\]\.size is an integer that is too long/);
    },
  );
}

/** Sends a body and returns the message of its error reply, in whichever encoding. */
async function rawReply(caller: RawCaller, body: Buffer | string): Promise<{ message: string }> {
  const id = caller.sendRaw(body);
  const { content } = await eventually('a reply', () => caller.repliesFor(id)[0]);
  const reply = content[0] === 131 ? new ErlangCodec().decode(content) : JSON.parse(content.toString());
  const { response_body } = reply as { response_body: { code: string; errors: string[] } };
  if (response_body.code !== 'invalid_request') throw new Error(`the code is ${response_body.code}`);
  return { message: response_body.errors.join() };
}
