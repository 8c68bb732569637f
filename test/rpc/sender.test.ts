import test from 'ava';
import { ANONYMOUS } from '../../src/api/caller.js';
import { callerOf, handedOn, readSender } from '../../src/rpc/sender.js';

const UNKNOWN = { name: undefined, verifiedBy: undefined, door: undefined };
const BY_GATEWAY = { 'x-caller': 'ci', 'x-caller-verified-by': 'token', 'x-door': 'http' };

const senderOf = (
  properties: Parameters<typeof readSender>[0],
  {
    ownUser = 'service',
    isPublishedAgain = false,
  }: { ownUser?: string | null; isPublishedAgain?: boolean } = {},
) => readSender(properties, ownUser ?? undefined, isPublishedAgain);

test('a message has the sender whom the broker has verified', (t) => {
  t.deepEqual(senderOf({ userId: 'ops' }), { name: 'ops', verifiedBy: 'broker', door: undefined });
  t.deepEqual(senderOf({ userId: 'service' }), { name: 'service', verifiedBy: 'broker', door: undefined });
  for (const userId of [undefined, '', 7]) t.deepEqual(senderOf({ userId }), UNKNOWN);
});

test('a header that names a caller is believed exactly when the service itself has sent it', (t) => {
  const named = { name: 'ci', verifiedBy: 'token', door: 'http' } as const;
  t.deepEqual(senderOf({ userId: 'service', headers: BY_GATEWAY }), named);
  t.deepEqual(senderOf({ userId: 'ops', headers: BY_GATEWAY }), {
    name: 'ops',
    verifiedBy: 'broker',
    door: undefined,
  });
  t.deepEqual(senderOf({ headers: BY_GATEWAY }), UNKNOWN);
  t.deepEqual(senderOf({ headers: BY_GATEWAY }, { ownUser: null }), UNKNOWN, 'no user is not the own user');
  t.deepEqual(senderOf({ userId: '', headers: BY_GATEWAY }, { ownUser: '' }), UNKNOWN);
});

test('a caller whom the service names without more is verified by the service, and an empty name is nobody', (t) => {
  const of = (headers: Record<string, unknown>) => senderOf({ userId: 'service', headers });
  t.deepEqual(of({ 'x-caller': 'ci' }), { name: 'ci', verifiedBy: 'service', door: undefined });
  for (const wrong of ['', 'toString', 7, { a: 1 }])
    t.deepEqual(of({ 'x-caller': 'ci', 'x-caller-verified-by': wrong, 'x-door': wrong }), {
      name: 'ci',
      verifiedBy: 'service',
      door: undefined,
    });
  t.deepEqual(of({ ...BY_GATEWAY, 'x-caller': '' }), { ...UNKNOWN, door: 'http' });
  t.deepEqual(of({ 'x-caller': 7 }), { name: 'service', verifiedBy: 'broker', door: undefined });
});

test('a message that somebody else published again has the sender that it names, whom nobody has verified', (t) => {
  const again = { isPublishedAgain: true };
  for (const userId of [undefined, '', 'stranger'])
    t.deepEqual(senderOf({ userId, headers: BY_GATEWAY }, again), { ...UNKNOWN, name: 'ci' });
  t.deepEqual(senderOf({ userId: 'stranger' }, again), UNKNOWN);
});

test('a caller is anonymous unless somebody has verified the name', (t) => {
  t.deepEqual(callerOf({ name: 'ops', verifiedBy: 'broker', door: undefined }), {
    name: 'ops',
    verifiedBy: 'broker',
  });
  t.is(callerOf({ ...UNKNOWN, name: 'ops' }), ANONYMOUS);
  t.is(callerOf(UNKNOWN), ANONYMOUS);
});

test('who is handed on is the same to the next worker, and becomes nobody else', (t) => {
  const ops = { name: 'ops', verifiedBy: 'broker', door: 'http' } as const;
  for (const sender of [
    ops,
    { ...ops, verifiedBy: 'manager' } as const,
    UNKNOWN,
    { ...UNKNOWN, door: 'http' } as const,
  ])
    t.deepEqual(senderOf(handedOn(sender, 'service')), sender);
  const unverified = handedOn({ ...UNKNOWN, name: 'ops' }, 'service');
  t.deepEqual(senderOf(unverified), UNKNOWN);
  t.deepEqual(senderOf(unverified, { isPublishedAgain: true }), { ...UNKNOWN, name: 'ops' });
  const withoutUser = handedOn(ops, undefined);
  t.is(withoutUser.userId, undefined);
  t.deepEqual(senderOf(withoutUser, { isPublishedAgain: true }), { ...UNKNOWN, name: 'ops' });
});
