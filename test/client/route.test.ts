import test from 'ava';
import { abandoned, FleetManagerError, mayRunTwice, refused } from '../../src/client/route.js';
import { PublishRefused } from '../../src/rpc/publish-errors.js';

test('a request that the broker refuses is the mistake of its caller only when it is too large', (t) => {
  const tooLarge = refused(PublishRefused.tooLarge(300, 200));
  t.is(tooLarge.code, 'request_too_large');
  t.regex(tooLarge.message, /^the broker accepts at most 200 bytes: message size 300 is larger/);
  t.deepEqual(tooLarge.details, { limit: 200 });
  const forbidden = refused(new PublishRefused({ code: 403, text: 'ACCESS_REFUSED - no' }));
  t.is(forbidden.code, 'service_unavailable');
  t.is(forbidden.message, 'the broker refuses requests: ACCESS_REFUSED - no');
  t.is(forbidden.details, undefined);
});

test('only a change that was sent has an unknown outcome when nobody waits for it any more', (t) => {
  const late = new FleetManagerError('timeout', 'no reply within 5 ms');
  for (const [sent, mayRunAgain] of [
    [false, false],
    [false, true],
    [true, true],
  ] as const)
    t.is(abandoned({ sent, mayRunTwice: mayRunAgain }, late), late);
  const unknown = abandoned({ sent: true, mayRunTwice: false }, late);
  t.is(unknown.code, 'outcome_unknown');
  t.is(unknown.message, 'no reply within 5 ms; the request was sent, so the action may or may not have run');
});

test('a read may run twice, a change only when its caller says so', (t) => {
  t.true(mayRunTwice('list_units', {}));
  t.false(mayRunTwice('list_units', { resend: false }));
  t.false(mayRunTwice('restart_unit', {}));
  t.true(mayRunTwice('restart_unit', { resend: true }));
});
