import type { MessageProperties } from 'amqplib';
import test from 'ava';
import { readDeadLetter, replayedProperties } from '../../src/rpc/dead-letter.js';

const NOW = 1_700_000_000_000;
const OWN = { ownUser: 'service', now: NOW, leftMs: undefined };

function propertiesOf(properties: object): MessageProperties {
  return { headers: {}, ...properties } as MessageProperties;
}

test('a dead-lettered message says why, when, and until when its caller waits', (t) => {
  const headers = {
    'x-reason': 'no envelope',
    'x-dead-lettered-at': NOW,
    'x-ends-at': NOW + 5,
    'x-replayed': 2,
  };
  t.deepEqual(readDeadLetter({ headers, timestamp: 1 }), {
    reason: 'no envelope',
    at: NOW,
    endsAt: NOW + 5,
    mayHaveBegun: false,
    replays: 2,
  });
});

test('without its end, the caller waits for its time limit from when it sent the request, or no longer', (t) => {
  const seconds = NOW / 1_000;
  for (const [properties, endsAt] of [
    [{ timestamp: seconds, headers: { 'timeout-ms': '1000' } }, NOW + 1_000],
    [{ timestamp: seconds, headers: {} }, NOW + 300_000],
    [{ timestamp: seconds, headers: { 'timeout-ms': 'soon', 'x-dead-lettered-at': NOW + 7 } }, NOW + 7],
    [{ headers: { 'timeout-ms': 1_000, 'x-dead-lettered-at': NOW } }, NOW],
    [{ headers: { 'x-ends-at': 'tomorrow', 'x-dead-lettered-at': -1 } }, undefined],
    [{}, undefined],
  ] as const)
    t.is(readDeadLetter(propertiesOf(properties)).endsAt, endsAt, JSON.stringify(properties));
});

test('what the broker dead-lettered says which queue it left, why and when', (t) => {
  const time = { '!': 'timestamp', value: NOW / 1_000 };
  const last = { reason: 'delivery_limit', queue: 'requests', time, count: 1 };
  const headers = { 'x-death': [last, { reason: 'expired', queue: 'other' }] };
  t.like(readDeadLetter(propertiesOf({ headers })), {
    reason: 'the broker took it out of requests: delivery_limit',
    at: NOW,
    endsAt: NOW,
  });
  for (const malformed of ['text', [], [7]])
    t.notThrows(() => readDeadLetter(propertiesOf({ headers: { 'x-death': malformed } })));
});

test('a message may have begun when a worker says so, or has set it apart', (t) => {
  t.true(readDeadLetter(propertiesOf({ headers: { 'x-may-have-begun': true } })).mayHaveBegun);
  t.true(readDeadLetter(propertiesOf({ headers: { 'x-deadline': NOW } })).mayHaveBegun);
  t.false(readDeadLetter(propertiesOf({ headers: { 'x-may-have-begun': 'yes' } })).mayHaveBegun);
});

test('a replayed message keeps nothing that workers or the broker wrote on it, and counts its replays', (t) => {
  const headers = {
    'x-reason': 'r',
    'x-dead-lettered-at': NOW,
    'x-ends-at': NOW,
    'x-may-have-begun': true,
    'x-requeued': true,
    'x-deadline': NOW,
    'x-lost-workers': 3,
    'x-alone': true,
    'x-delivery-count': 9,
    'x-first-death-reason': 'expired',
    'x-replayed': 1,
    trace: 't',
  };
  t.deepEqual(replayedProperties(propertiesOf({ headers, messageId: 'm', expiration: '1' }), OWN), {
    messageId: 'm',
    priority: undefined,
    persistent: true,
    expiration: '300000',
    headers: {
      trace: 't',
      'x-caller': '',
      'x-caller-verified-by': '',
      'x-door': '',
      'x-replayed': 2,
      'x-replayed-at': NOW,
    },
  });
});

test('the time of a replayed message is what its caller waits still, or its time limit anew', (t) => {
  for (const [sent, leftMs, timeoutMs, expiration] of [
    [10_000, undefined, 10_000, '10000'],
    [10_000, 4_000, 4_000, '4000'],
    [10_000, 0.5, 1, '1'],
    [10_000, 1e15, 10_000, '10000'],
    [undefined, 4_000, 4_000, '4000'],
    [undefined, undefined, undefined, '300000'],
    ['soon', 4_000, 'soon', '4000'],
  ] as const) {
    const headers = sent === undefined ? {} : { 'timeout-ms': sent };
    const again = replayedProperties(propertiesOf({ headers }), { ...OWN, leftMs });
    t.is(again.headers?.['timeout-ms'], timeoutMs);
    t.is(again.expiration, expiration);
  }
});

test('only who was verified is handed on, and a name that anyone can write is not', (t) => {
  const callerOf = (properties: object) => {
    const { userId, headers } = replayedProperties(propertiesOf(properties), OWN);
    return [userId, headers?.['x-caller'], headers?.['x-caller-verified-by']];
  };
  const named = { 'x-caller': 'alice', 'x-caller-verified-by': 'token' };
  t.deepEqual(callerOf({ headers: named, userId: 'service' }), ['service', 'alice', 'token']);
  // The user of this connection may be another one than the service's, who would become the caller.
  t.deepEqual(callerOf({ headers: named }), [undefined, '', '']);
  t.deepEqual(callerOf({ headers: named, userId: 'bob' }), ['service', 'bob', 'broker']);
});
