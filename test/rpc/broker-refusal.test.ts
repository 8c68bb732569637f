import test from 'ava';
import { brokerReason, refusalOf } from '../../src/rpc/broker-refusal.js';

/** An error as amqplib makes it of a channel that the broker closes over a method. */
const closed = (text: string, code: number, [classId, methodId]: [number, number] = [0, 0]) =>
  Object.assign(new Error(`Channel closed by server: ${code} (SOME-NAME) with message "${text}"`), {
    code,
    classId,
    methodId,
  });

const to = (kind: string) => `ACCESS_REFUSED - access to ${kind} 'x' in vhost '/' refused for user 'y'`;

test('the text of a refusal is that of the broker, without the words of amqplib', (t) => {
  t.deepEqual(refusalOf(closed('NOT_FOUND - no "queue"\nx in vhost \'/\'', 404)), {
    code: 404,
    text: 'NOT_FOUND - no "queue"\nx in vhost \'/\'',
    permission: undefined,
  });
  t.is(
    refusalOf(Object.assign(new Error('CONNECTION_FORCED - stopped'), { code: 320 }))?.text,
    'CONNECTION_FORCED - stopped',
  );
});

test('a refusal is found among the causes of an error, and no other error is one', (t) => {
  const cause = closed('NOT_FOUND - no', 404);
  t.is(refusalOf(new Error('outer', { cause: new Error('inner', { cause }) }))?.code, 404);
  for (const error of [
    new Error('cut'),
    Object.assign(new Error('cut'), { code: 'ECONNRESET' }),
    'cut',
    undefined,
  ])
    t.is(refusalOf(error), undefined);
  t.is(brokerReason(new Error('cut')), 'cut');
});

test('a refusal names the permission that the operation needs on a queue, and on an exchange', (t) => {
  const methods: [string, [number, number], string, string][] = [
    ['binding', [50, 20], 'write', 'read'],
    ['declaring or deleting', [50, 40], 'configure', 'write'],
    ['declaring a queue', [50, 10], 'configure or read', 'write'],
    ['consuming', [60, 20], 'read', 'read'],
    ['publishing', [60, 40], 'write', 'write'],
  ];
  for (const [what, method, onQueue, onExchange] of methods)
    for (const [kind, permission] of [
      ['queue', onQueue],
      ['exchange', onExchange],
    ] as const) {
      const text = to(kind);
      t.is(brokerReason(closed(text, 403, method)), `${text} (it lacks the ${permission} permission)`, what);
    }
});

test('a refusal for another reason, or of an unknown operation, names no permission', (t) => {
  for (const error of [
    closed(to('queue'), 404, [60, 20]),
    closed(to('vhost'), 403, [60, 20]),
    closed('ACCESS_REFUSED - no', 403, [60, 20]),
    closed(to('queue'), 403, [10, 40]),
  ])
    t.is(brokerReason(error), refusalOf(error)?.text ?? 'none');
});
