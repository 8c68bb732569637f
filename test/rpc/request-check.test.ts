import test from 'ava';
import { checkRequest } from '../../src/rpc/request-check.js';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import type { Request } from '../../src/rpc/request.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';

const REQUEST = {} as Request;

function channel(checks?: ReplyChannel['check']): ReplyChannel {
  return {
    needsPlainReply: false,
    reaches: () => true,
    send: async () => 'sent',
    ...(checks && { check: checks }),
  };
}

/** Checks a request of which 3 s have passed. */
function check(channels: readonly ReplyChannel[], { timeoutMs = 5_000 }: { timeoutMs?: unknown } = {}) {
  const clock = new ManualClock();
  const [stopped, lost] = [new AbortController(), new AbortController()];
  const signals = [stopped.signal, lost.signal];
  const checked = checkRequest(REQUEST, { channels, timeoutMs, waitedMs: 3_000, signals, clock });
  return { checked, clock, stopped, lost };
}

const waiting = () => channel(async (_request, signal) => untilStopped(signal));

async function untilStopped(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

test('a request may run when no reply channel refuses it', async (t) => {
  for (const channels of [[], [channel()], [channel(async () => ({})), channel()]]) {
    const { checked, clock } = check(channels);
    t.deepEqual(await checked, { state: 'accepted', vouchedFor: undefined });
    t.is(clock.pending, 0);
  }
});

test('a request that a reply channel refuses is refused for the first reason, and the other channels are told', async (t) => {
  const [reaches, plain] = [channel(async () => ({})), channel()];
  const { checked } = check([
    reaches,
    channel(async () => ({ refusal: 'no record' })),
    plain,
    channel(async () => ({ refusal: 'no more' })),
  ]);
  t.deepEqual(await checked, { state: 'refused', reason: 'no record', channels: [reaches, plain] });
});

test('who asks is what the first channel proves that knows it', async (t) => {
  const knows = (name: string) =>
    channel(async () => ({ vouchesFor: { name, verifiedBy: 'manager' as const } }));
  const { checked } = check([channel(), channel(async () => ({})), knows('manager'), knows('other')]);
  t.deepEqual(await checked, {
    state: 'accepted',
    vouchedFor: { name: 'manager', verifiedBy: 'manager' },
  });
});

test('a request whose reply channels check nothing needs no time for that', async (t) => {
  const { checked, clock } = check([channel()], { timeoutMs: 2_000 });
  t.is(clock.pending, 0);
  t.deepEqual(await checked, { state: 'accepted', vouchedFor: undefined });
});

test('a request is late when its time passes before a channel knows', async (t) => {
  for (const [timeoutMs, leftMs, waitedMs] of [
    [5_000, 2_000, 5_000],
    ['5000', 2_000, 5_000],
    [2_000, 0, 2_000],
    ['no time limit', 297_000, 300_000],
  ] as const) {
    const { checked, clock } = check([waiting()], { timeoutMs });
    const seen = watched(checked);
    await settle();
    clock.advance(leftMs - 1);
    await settle();
    t.is(seen(), undefined, String(timeoutMs));
    clock.advance(1);
    t.deepEqual(await checked, { state: 'late', waitedMs }, String(timeoutMs));
  }
});

test('a request is released when the service stops or its connection is lost', async (t) => {
  for (const which of ['stopped', 'lost'] as const) {
    const { checked, clock, ...aborts } = check([waiting()]);
    await settle();
    aborts[which].abort(new Error(which));
    t.deepEqual(await checked, { state: 'released' });
    t.is(clock.pending, 0);
  }
});

test('an unexpected failure of a channel is an error', async (t) => {
  const { checked } = check([
    channel(async () => {
      throw new Error('a defect');
    }),
  ]);
  await t.throwsAsync(checked, { message: 'a defect' });
});
