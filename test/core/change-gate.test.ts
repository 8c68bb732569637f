import test from 'ava';
import { object } from 'yup';
import {
  type Call,
  Cancelled,
  ConnectionLost,
  type Reply,
  type Settled,
  Shutdown,
} from '../../src/core/call.js';
import { type ChangeClaims, MadeElsewhere } from '../../src/core/change-claims.js';
import { ActionError, unitName } from '../../src/plugin.js';
import { doing } from '../support/actions.js';
import { codeOf, openRunner, settle, steered, TOKEN, watched } from '../support/open-runner.js';
import { fakeClaims } from './fake-claims.js';

const CHANGE = { effect: 'change' } as const;
const UNITS = {
  ...CHANGE,
  parameters: object({
    first: unitName().meta({ description: 'A unit.' }),
    second: unitName().meta({ description: 'A unit.' }),
  }),
} as const;
const AWAY = new ActionError('service_unavailable', 'the store is away');
const never = new Promise(() => {});

/** A change whose runs are counted. */
function counted(definition: Parameters<typeof doing>[1] = {}) {
  const seen: boolean[] = [];
  const action = doing(
    async ({ repeated }) => {
      seen.push(repeated);
      return { run: seen.length };
    },
    { ...CHANGE, ...definition },
  );
  return { action, seen };
}

test('a change is claimed, its units are locked, it begins, and its reply is noted before the caller gets it', async (t) => {
  const { action } = counted(UNITS);
  let note: (value?: unknown) => void = () => {};
  const noted = new Promise((resolve) => (note = resolve));
  const { claims, asked, settled, changes, watched: losable } = fakeClaims({ waits: { settle: noted } });
  const { ask } = openRunner([action], { claims });
  const reply = watched(
    ask({ key: 'k', target: undefined, parameters: { first: 'b.service', second: 'a.service' } }),
  );
  while (!asked.includes('settle')) await settle();
  t.is(reply(), undefined);
  t.like(changes[0], { key: 'k', id: 'r1', action: 'act' });
  note();
  while (reply() === undefined) await settle();
  t.deepEqual(asked, ['claim', 'lock none a.service', 'lock none b.service', 'begin', 'settle']);
  t.deepEqual(settled, [{ status: 'completed', body: { run: 1 } }]);
  t.is(losable(), 0);
});

test('a claim tells for how long the service has had the change', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims, changes } = fakeClaims();
  const { codeFor, clock } = openRunner([action], { claims, clusterConcurrency: 1 });
  const codes = [codeFor({ key: 'a' }), codeFor({ key: 'b', waitedMs: 700 })];
  while (runs.length < 1) await settle();
  clock.advance(3_000);
  runs[0]?.resolve({});
  while (runs.length < 2) await settle();
  runs[1]?.resolve({});
  t.deepEqual(await Promise.all(codes), ['completed', 'completed']);
  t.deepEqual(
    changes.map(({ heldMs }) => heldMs),
    [0, 3_700],
  );
});

test('a read is not claimed', async (t) => {
  const { claims, asked } = fakeClaims();
  const { codeFor } = openRunner([doing(async () => ({}))], { claims });
  t.is(await codeFor({ key: 'k' }), 'completed');
  t.deepEqual(asked, []);
});

test('without a key only the units of a change are claimed, and without units nothing is', async (t) => {
  const units = counted(UNITS);
  const { claims, asked, changes } = fakeClaims();
  const { codeFor } = openRunner([units.action, counted({ name: 'other' }).action], { claims });
  t.is(await codeFor({ action: 'other' }), 'completed');
  t.deepEqual(asked, []);
  t.is(await codeFor({ parameters: { first: 'a.service' }, target: undefined }), 'completed');
  t.is(changes[0]?.key, undefined);
  t.deepEqual(asked, ['claim', 'lock none a.service', 'begin', 'settle']);
});

test('without a key the delivery tells whether an earlier run may have begun, with and without a store', async (t) => {
  const call = { parameters: { first: 'a.service' }, target: undefined };
  for (const claims of [undefined, fakeClaims().claims]) {
    const { action, seen } = counted({ ...UNITS, redelivery: 'run-again' });
    const { codeFor } = openRunner([action], { claims });
    for (const delivery of ['first', 'repeated'] as const)
      t.is(await codeFor({ ...call, delivery }), 'completed');
    t.deepEqual(seen, [false, true]);
  }
});

test('without a key a repeated change is not run again with a store either', async (t) => {
  const { action, seen } = counted();
  const { codeFor } = openRunner([action], { claims: fakeClaims().claims });
  t.is(await codeFor({ delivery: 'repeated' }), 'outcome_unknown');
  t.deepEqual(seen, []);
});

test('a repeated change that another worker has made is answered with its reply and does not run', async (t) => {
  const recordings: Reply[] = [
    { status: 'completed', body: { by: 'another' } },
    // Also an error that may be tried again: then it did not begin.
    { status: 'error', body: { errors: ['not now'], code: 'cluster_busy' } },
  ];
  for (const recorded of recordings) {
    const { action, seen } = counted();
    const { claims } = fakeClaims({ claimed: recorded });
    const { ask } = openRunner([action], { claims });
    t.deepEqual(await ask({ key: 'k', delivery: 'repeated' }), recorded);
    t.deepEqual(seen, []);
  }
});

test('a repeated change that certainly never began runs like one that was not delivered before', async (t) => {
  const { action, seen } = counted();
  const { claims } = fakeClaims();
  const { codeFor } = openRunner([action], { claims });
  t.is(await codeFor({ key: 'k', delivery: 'repeated' }), 'completed');
  t.deepEqual(seen, [false]);
});

test('the error of such a change may let its caller try again', async (t) => {
  const action = doing(async () => Promise.reject(new ActionError('cluster_unreachable', 'so')), CHANGE);
  const { claims } = fakeClaims();
  const { codeFor } = openRunner([action], { claims });
  t.is(await codeFor({ key: 'k', delivery: 'repeated' }), 'cluster_unreachable');
});

test('a change that a lost worker has begun is not run again, and that is noted', async (t) => {
  const { action, seen } = counted();
  const { claims, asked, settled } = fakeClaims({ claimed: 'begun' });
  const { ask } = openRunner([action], { claims });
  const reply = await ask({ key: 'k', delivery: 'repeated' });
  t.is(codeOf(reply), 'outcome_unknown');
  t.deepEqual(seen, []);
  t.deepEqual(settled.map(codeOf), ['outcome_unknown']);
  t.deepEqual(asked, ['claim', 'settle']);
});

test('a change that a lost worker has begun runs again when its action says so', async (t) => {
  const { action, seen } = counted({ redelivery: 'run-again' });
  const { claims } = fakeClaims({ claimed: 'begun' });
  const { codeFor } = openRunner([action], { claims });
  t.is(await codeFor({ key: 'k', delivery: 'repeated' }), 'completed');
  t.deepEqual(seen, [true]);
});

test('what came of a change that a lost worker has begun is found out, while its units are locked', async (t) => {
  const { action, seen } = counted({ ...UNITS, probe: async ({ repeated }) => ({ found: repeated }) });
  const { claims, asked, settled } = fakeClaims({ claimed: 'begun' });
  const { ask } = openRunner([action], { claims });
  const call = {
    key: 'k',
    delivery: 'repeated',
    target: undefined,
    parameters: { first: 'a.service' },
  } as const;
  t.deepEqual(await ask(call), { status: 'completed', body: { found: true } });
  t.deepEqual(seen, []);
  t.deepEqual(asked, ['claim', 'lock none a.service', 'begin', 'settle']);
  t.deepEqual(settled, [{ status: 'completed', body: { found: true } }]);
});

for (const [what, probe] of [
  ['finds nothing', async () => undefined],
  ['cannot reach the cluster', async () => Promise.reject(new ActionError('cluster_unreachable', 'so'))],
] as const) {
  test(`a probe that ${what} leaves the outcome unknown`, async (t) => {
    const { claims, settled } = fakeClaims({ claimed: 'begun' });
    const { codeFor } = openRunner([counted({ probe }).action], { claims });
    t.is(await codeFor({ key: 'k', delivery: 'repeated' }), 'outcome_unknown');
    t.deepEqual(settled.map(codeOf), ['outcome_unknown']);
  });
}

test('while the store is away, a change is refused and reads go on', async (t) => {
  const { action, seen } = counted();
  const { claims, settled } = fakeClaims({ fails: { claim: AWAY } });
  const { codeFor } = openRunner([action, doing(async () => ({}), { name: 'read' })], { claims });
  t.is(await codeFor({ key: 'k' }), 'service_unavailable');
  t.deepEqual(seen, []);
  t.deepEqual(settled, []);
  t.is(await codeFor({ action: 'read', key: 'k' }), 'completed');
});

for (const failing of ['lockUnit', 'begin'] as const) {
  test(`a change whose claim fails at ${failing} never begins, and that is noted`, async (t) => {
    const { action, seen } = counted(UNITS);
    const { claims, settled } = fakeClaims({ fails: { [failing]: AWAY } });
    const { codeFor } = openRunner([action], { claims });
    const call = { key: 'k', target: undefined, parameters: { first: 'a.service' } };
    t.is(await codeFor(call), 'service_unavailable');
    t.deepEqual(seen, []);
    t.deepEqual(settled.map(codeOf), ['service_unavailable']);
  });
}

test('a change whose time ends while it waits for another worker has not begun', async (t) => {
  const { action, seen } = counted();
  const { claims } = fakeClaims({ waits: { claim: never } });
  const { codeFor, clock } = openRunner([action], { claims });
  const ended = watched(codeFor({ key: 'k', timeoutMs: 100 }));
  await settle();
  clock.advance(100);
  while (ended() === undefined) await settle();
  t.is(ended(), 'timeout');
  t.is(clock.pending, 0);
  t.deepEqual(seen, []);
});

/** How long it is tried to find out what another worker has made of a change, in milliseconds. */
const INQUIRY_MS = 150_000;
const REPEATED = { key: 'k', delivery: 'repeated' } as const;
/** Its caller's time is over. */
const LATE = { ...REPEATED, timeoutMs: 100, waitedMs: 200 } as const;

test('what another worker has made of a change is waited for also when its caller no longer waits, with a limit', async (t) => {
  const { action, seen } = counted();
  const { claims } = fakeClaims({ waits: { claim: never } });
  const { codeFor, clock } = openRunner([action], { claims });
  const ended = watched(codeFor({ ...REPEATED, timeoutMs: 100 }));
  await settle();
  clock.advance(INQUIRY_MS - 1);
  await settle();
  t.is(ended(), undefined);
  clock.advance(1);
  while (ended() === undefined) await settle();
  t.is(ended(), 'outcome_unknown');
  t.is(clock.pending, 0);
  t.deepEqual(seen, []);
});

test('a change that waits for another worker leaves its place to other requests, and takes one again to run', async (t) => {
  const { action, runs } = steered(CHANGE);
  let found: (value?: unknown) => void = () => {};
  const { claims } = fakeClaims({ waits: { claim: new Promise((resolve) => (found = resolve)) } });
  const read = doing(async () => ({}), { name: 'read' });
  const { codeFor } = openRunner([action, read], { claims, concurrency: 1, clusterConcurrency: 1 });
  const change = codeFor(REPEATED);
  await settle();
  t.is(await codeFor({ action: 'read' }), 'completed');
  found();
  while (runs.length === 0) await settle();
  const waiting = watched(codeFor({ action: 'read' }));
  await settle();
  t.is(waiting(), undefined);
  runs[0]?.resolve({});
  t.is(await change, 'completed');
  while (waiting() === undefined) await settle();
  t.is(waiting(), 'completed');
});

test('the reply of another worker is found also when a new request would be refused', async (t) => {
  const made: Reply = { status: 'completed', body: { by: 'another' } };
  const { action, seen } = counted();
  const { claims } = fakeClaims({ claimed: made });
  const { ask, clock } = openRunner([action], { claims });
  t.deepEqual(await ask(LATE), made);
  t.is(clock.pending, 0);
  const full = openRunner([action], { claims, maxCalls: 0 });
  t.is(await full.codeFor({ key: 'k' }), 'cluster_busy');
  t.deepEqual(await full.ask(REPEATED), made);
  t.deepEqual(await full.ask({ key: 'k', mayBeCopy: true }), made, 'a copy');
  t.deepEqual(seen, []);
});

test('a message that says it was replayed gets no room that others have not', async (t) => {
  const replayed = { key: 'k', mayBeCopy: true, replays: 1 };
  const { action, seen } = counted();
  const unknown = openRunner([action], { claims: fakeClaims().claims, maxCalls: 0 });
  t.is(await unknown.codeFor(replayed), 'cluster_busy');
  const made: Reply = { status: 'completed', body: { by: 'another' } };
  const known = openRunner([action], { claims: fakeClaims({ claimed: made }).claims, maxCalls: 0 });
  t.deepEqual(await known.ask(replayed), made, 'what came of it is told all the same');
  const away = openRunner([action], { claims: fakeClaims({ fails: { claim: AWAY } }).claims, maxCalls: 0 });
  t.is(await away.codeFor(replayed), 'outcome_unknown', 'another worker may have made it');
  t.deepEqual(seen, []);
  const changes = steered(UNITS);
  const { codeFor } = openRunner([changes.action], { claims: fakeClaims().claims });
  const parameters = { first: 'a.service' };
  for (const key of ['1', '2', '3']) void codeFor({ key, parameters });
  while (changes.runs.length === 0) await settle();
  t.is(await codeFor({ ...replayed, parameters }), 'cluster_busy');
});

test('the reply of another worker is found also when the cluster cannot be reached', async (t) => {
  const made: Reply = { status: 'completed', body: { by: 'another' } };
  const away = doing(async () => Promise.reject(new ActionError('cluster_unreachable', 'so')), {
    name: 'read',
  });
  const { claims } = fakeClaims({ claimed: made });
  const { ask, codeFor } = openRunner([counted().action, away], { claims });
  for (let failures = 3; failures > 0; failures--) await codeFor({ action: 'read' });
  t.like(await ask({ action: 'read' }), { body: { details: { retry_after_ms: 5_000 } } });
  t.deepEqual(await ask(REPEATED), made);
});

test('the reply of another worker is found also when the cluster was lost while its request waited', async (t) => {
  const made: Reply = { status: 'completed', body: { by: 'another' } };
  const away = doing(async () => Promise.reject(new ActionError('cluster_unreachable', 'so')), {
    name: 'read',
  });
  const { claims } = fakeClaims({ claimed: made });
  const { ask, codeFor } = openRunner([counted().action, away], { claims, clusterConcurrency: 1 });
  const reads = [1, 2, 3].map(async () => codeFor({ action: 'read' }));
  const reply = ask(REPEATED);
  const first = codeFor({ key: 'other' });
  t.deepEqual(await Promise.all(reads), Array(3).fill('cluster_unreachable'));
  t.is(await first, 'cluster_unreachable', 'a first delivery is refused');
  t.deepEqual(await reply, made);
});

test('what refuses a change before its turn is noted before its caller is told', async (t) => {
  const { action, runs } = steered(CHANGE);
  const away = doing(async () => Promise.reject(new ActionError('cluster_unreachable', 'so')), {
    name: 'read',
  });
  const cases: Record<string, (store: ReturnType<typeof fakeClaims>) => Promise<Settled>> = {
    cluster_busy: async ({ claims }) => openRunner([action], { claims, maxCalls: 0 }).ask({ key: 'k' }),
    timeout: async ({ claims }) => openRunner([action], { claims }).ask({ key: 'k', waitedMs: 3_600_000 }),
    cluster_unreachable: async ({ claims }) => {
      const { ask, codeFor } = openRunner([action, away], { claims });
      for (let failures = 3; failures > 0; failures--) await codeFor({ action: 'read' });
      return ask({ key: 'k' });
    },
    cancelled: async ({ claims }) => {
      const { ask, codeFor } = openRunner([action], { claims, concurrency: 1 });
      void codeFor();
      while (runs.length === 0) await settle();
      const caller = new AbortController();
      const waiting = ask({ key: 'k', signal: caller.signal });
      caller.abort(new Cancelled('its caller is gone'));
      return waiting;
    },
  };
  for (const [code, refusal] of Object.entries(cases)) {
    const store = fakeClaims();
    const told = await refusal(store);
    t.is(codeOf(told), code);
    t.deepEqual(store.settled, [told], code);
    t.deepEqual(store.asked, ['claim', 'settle'], code);
  }
});

test('a change that was refused is not refused again when its caller is gone', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims, asked } = fakeClaims();
  const { codeFor, clock } = openRunner([action], { claims, concurrency: 1 });
  void codeFor();
  while (runs.length === 0) await settle();
  const caller = new AbortController();
  const waiting = codeFor({ key: 'k', timeoutMs: 100, signal: caller.signal });
  clock.advance(100);
  t.is(await waiting, 'timeout');
  caller.abort(new Cancelled('its caller is gone'));
  await settle();
  t.deepEqual(asked, ['claim', 'settle']);
});

test('what is wrong with a change itself is not noted, and neither is what refuses a read', async (t) => {
  const { claims, asked } = fakeClaims();
  const read = doing(async () => ({}), { name: 'read' });
  const { codeFor } = openRunner([counted().action, read], { claims, maxCalls: 0 });
  t.is(await codeFor({ key: 'k', parameters: 7 }), 'invalid_parameters');
  t.is(await codeFor({ key: 'k', action: 'other' }), 'unknown_action');
  t.is(await codeFor({ key: 'k', action: 'read' }), 'cluster_busy');
  t.is(await codeFor({ key: undefined }), 'cluster_busy');
  t.deepEqual(asked, []);
});

test('a refusal is told also when it cannot be noted, at the latest after 15 seconds', async (t) => {
  const away = fakeClaims({ fails: { claim: AWAY } });
  t.is(
    await openRunner([counted().action], { claims: away.claims, maxCalls: 0 }).codeFor({ key: 'k' }),
    'cluster_busy',
  );
  const defect = fakeClaims({ fails: { claim: new TypeError('a defect') } });
  t.is(
    await openRunner([counted().action], { claims: defect.claims, maxCalls: 0 }).codeFor({ key: 'k' }),
    'internal',
  );
  for (const waits of ['claim', 'settle'] as const) {
    const { claims } = fakeClaims({ waits: { [waits]: never } });
    const { codeFor, clock } = openRunner([counted().action], { claims, maxCalls: 0 });
    const code = watched(codeFor({ key: 'k' }));
    await settle();
    clock.advance(14_999);
    await settle();
    t.is(code(), undefined, waits);
    clock.advance(1);
    while (code() === undefined) await settle();
    t.is(code(), 'cluster_busy');
    t.is(clock.pending, 0);
  }
});

test('a change that another worker has taken is not refused, but left to it', async (t) => {
  const { action, seen } = counted();
  const taken = { isLost: true, fails: { begin: AWAY } };
  t.is(await openRunner([action], { claims: fakeClaims(taken).claims }).codeFor({ key: 'k' }), 'released');
  const { claims } = fakeClaims({ isLost: true });
  t.is(await openRunner([action], { claims, maxCalls: 0 }).codeFor({ key: 'k' }), 'released');
  t.deepEqual(seen, []);
  t.is(await openRunner([action], { claims }).codeFor({ key: 'k' }), 'completed', 'it was made here');
});

test('a first delivery of a change that another worker makes goes back when it would be refused or late', async (t) => {
  for (const delivery of [{ key: 'k' }, { key: 'k', mayBeCopy: true }] as const) {
    const { claims } = fakeClaims({ fails: { claim: new MadeElsewhere(AWAY) } });
    const expected = 'mayBeCopy' in delivery ? 'outcome_unknown' : 'released';
    t.is(await openRunner([counted().action], { claims }).codeFor(delivery), expected);
  }
  const { claims } = fakeClaims({ fails: { claim: new MadeElsewhere(AWAY) } });
  t.is(await openRunner([counted().action], { claims, maxCalls: 0 }).codeFor({ key: 'k' }), 'released');
  const stopped = fakeClaims({ fails: { claim: new MadeElsewhere(new Shutdown('it stops')) } });
  const { codeFor } = openRunner([counted().action], { claims: stopped.claims });
  t.is(await codeFor(REPEATED), 'released');
});

test('a refused change whose connection is lost, or whose worker stops, before that is noted is left to others', async (t) => {
  for (const loses of [true, false]) {
    let note: (value?: unknown) => void = () => {};
    const { claims } = fakeClaims({ waits: { claim: new Promise((resolve) => (note = resolve)) } });
    const { codeFor, drain } = openRunner([counted().action], { claims, maxCalls: 0 });
    const connection = new AbortController();
    const code = codeFor({ key: 'k', signal: connection.signal });
    await settle();
    if (loses) connection.abort(new ConnectionLost('it is lost'));
    else await drain(1_000);
    note();
    t.is(await code, 'released');
  }
});

test('what another worker has made of a change is waited for until that one must have reported it', async (t) => {
  const { claims } = fakeClaims({ waits: { claim: never } });
  const { codeFor, clock } = openRunner([counted().action], { claims });
  const ended = watched(codeFor({ ...REPEATED, timeoutMs: 200_000 }));
  await settle();
  clock.advance(200_000 + 30_000);
  await settle();
  t.is(ended(), undefined);
  clock.advance(10_000);
  while (ended() === undefined) await settle();
  t.is(ended(), 'outcome_unknown');
});

test('a refusal of a change that a lost worker has begun says that its outcome is unknown, and is not noted', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims, asked } = fakeClaims({ claimed: 'begun' });
  const { codeFor } = openRunner([action], { claims, concurrency: 1 });
  void codeFor();
  while (runs.length === 0) await settle();
  const caller = new AbortController();
  const waiting = [REPEATED, { key: 'k', mayBeCopy: true }].map(async (call) =>
    codeFor({ ...call, signal: caller.signal }),
  );
  caller.abort(new Cancelled('its caller is gone'));
  t.deepEqual(await Promise.all(waiting), ['outcome_unknown', 'outcome_unknown']);
  t.deepEqual(asked.toSorted(), ['claim', 'claim', 'release', 'release']);
});

test('a refusal of a change that was delivered before, and never began, is told as it is', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims, settled } = fakeClaims();
  const { ask, codeFor } = openRunner([action], { claims, concurrency: 1 });
  void codeFor();
  while (runs.length === 0) await settle();
  const caller = new AbortController();
  const waiting = ask({ ...REPEATED, signal: caller.signal });
  caller.abort(new Cancelled('its caller is gone'));
  t.is(codeOf(await waiting), 'cancelled');
  t.deepEqual(settled, [await waiting]);
});

test('a policy that denies a change that was delivered before says nothing of what came of it then', async (t) => {
  const policy = { decide: () => ({ allowed: false, needed: 'A rule is needed.' }) as const };
  const action = doing(async () => t.fail(), CHANGE);
  const codeWith = async (settings: Parameters<typeof openRunner>[1], call: Partial<Call>) =>
    openRunner([action], { policy, ...settings }).codeFor(call);
  t.is(await codeWith({}, {}), 'forbidden');
  t.is(await codeWith({}, REPEATED), 'outcome_unknown', 'it may have been allowed then');
  const unknown = fakeClaims();
  const verified = { ...REPEATED, caller: { name: 'ci', verifiedBy: 'broker' } } as const;
  t.is(await codeWith({ claims: unknown.claims }, verified), 'forbidden', 'no worker has begun it');
  t.deepEqual(unknown.settled.map(codeOf), ['forbidden']);
  const copied = fakeClaims();
  t.is(await codeWith({ claims: copied.claims }, REPEATED), 'forbidden');
  t.deepEqual(copied.settled, [], 'anybody could refuse the change of another caller so');
  t.true(copied.asked.includes('release'));
  t.is(await codeWith({ claims: fakeClaims({ claimed: 'begun' }).claims }, REPEATED), 'outcome_unknown');
  const made = fakeClaims({ claimed: { status: 'completed', body: 'made' } });
  t.is(await codeWith({ claims: made.claims }, REPEATED), 'completed');
  const first = fakeClaims();
  t.is(await codeWith({ claims: first.claims }, { key: 'k' }), 'forbidden');
  t.deepEqual(first.asked, [], 'the store is not asked about the first delivery');
});

test('a change that is late, and that no other worker has begun, does not begin', async (t) => {
  const { action, seen } = counted();
  const { claims, settled } = fakeClaims();
  const { codeFor, clock } = openRunner([action], { claims });
  t.is(await codeFor(LATE), 'timeout');
  t.deepEqual(seen, []);
  t.deepEqual(settled.map(codeOf), ['timeout']);
  t.is(clock.pending, 0);
});

test('a change that becomes late while its worker is looked for does not begin', async (t) => {
  const { action, seen } = counted();
  let found: (value?: unknown) => void = () => {};
  const { claims } = fakeClaims({ waits: { claim: new Promise((resolve) => (found = resolve)) } });
  const { codeFor, clock } = openRunner([action], { claims });
  const code = codeFor({ ...REPEATED, timeoutMs: 100 });
  await settle();
  clock.advance(100);
  found();
  t.is(await code, 'timeout');
  t.deepEqual(seen, []);
});

test('a change that another worker may have begun waits for its units however many changes do', async (t) => {
  const { action, runs } = steered({ ...UNITS, probe: async () => ({ found: true }) });
  const { claims } = fakeClaims();
  const begun = fakeClaims({ claimed: 'begun' });
  const { ask, codeFor } = openRunner([action], {
    claims: {
      claim: async (change, signal) => (change.isRepeated ? begun : { claims }).claims.claim(change, signal),
    },
  });
  const parameters = { first: 'a.service' };
  const codes = ['1', '2', '3'].map(async (key) => codeFor({ key, parameters }));
  while (runs.length === 0) await settle();
  t.is(await codeFor({ key: '4', parameters }), 'cluster_busy');
  const reply = ask({ ...REPEATED, parameters });
  for (let done = 0; done < 3; done++) {
    while (runs.length === done) await settle();
    runs[done]?.resolve({});
  }
  t.deepEqual(await Promise.all(codes), Array(3).fill('completed'));
  t.deepEqual(await reply, { status: 'completed', body: { found: true } });
});

test('a change that a lost worker has begun is found out also when its caller no longer waits', async (t) => {
  let left = 0;
  const { action } = counted({
    probe: async ({ deadline }) => {
      left = deadline - clock.now();
      return { found: true };
    },
  });
  const { claims } = fakeClaims({ claimed: 'begun' });
  const { ask, clock } = openRunner([action], { claims });
  t.deepEqual(await ask(LATE), { status: 'completed', body: { found: true } });
  t.is(left, INQUIRY_MS);
  t.is(clock.pending, 0);
});

test('a repeated change that never began is stopped when its caller no longer waits', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims } = fakeClaims();
  const { codeFor, clock } = openRunner([action], { claims });
  const code = codeFor({ ...REPEATED, timeoutMs: 1_000, waitedMs: 400 });
  while (runs.length === 0) await settle();
  clock.advance(599);
  t.false(runs[0]?.signal.aborted);
  clock.advance(1);
  t.true(runs[0]?.signal.aborted);
  runs[0]?.resolve({});
  t.is(await code, 'completed');
  t.is(clock.pending, 0);
});

test('a change without a key that another worker may have is not one to try again when it could not lock its unit', async (t) => {
  const { claims } = fakeClaims({ fails: { lockUnit: AWAY } });
  const { codeFor } = openRunner([counted(UNITS).action], { claims });
  const call = { target: undefined, parameters: { first: 'a.service' } };
  t.is(await codeFor({ ...call, mayBeCopy: true }), 'outcome_unknown');
  t.is(await codeFor(call), 'service_unavailable');
});

test('a change whose time ends while it waits for its unit has not begun, and that is noted', async (t) => {
  const { action, seen } = counted(UNITS);
  const { claims, settled } = fakeClaims({ waits: { lockUnit: never } });
  const { codeFor, clock } = openRunner([action], { claims });
  const ended = watched(codeFor({ key: 'k', timeoutMs: 5_000, parameters: { first: 'a.service' } }));
  await settle();
  clock.advance(5_000);
  while (ended() === undefined) await settle();
  t.is(ended(), 'timeout');
  t.deepEqual(seen, []);
  t.deepEqual(settled.map(codeOf), ['timeout']);
});

test('a cluster is not taken for one that does not respond because changes wait for other workers', async (t) => {
  const { claims } = fakeClaims({ waits: { lockUnit: never } });
  const read = doing(async () => ({}), { name: 'read' });
  const { codeFor, clock, events } = openRunner([counted(UNITS).action, read], { claims });
  t.is(await codeFor({ action: 'read' }), 'completed', 'it responds');
  events.on('withoutResponse', ({ calls }) => t.is(calls, 0));
  for (let n = 0; n < 6; n++) {
    const ended = watched(codeFor({ key: 'k', timeoutMs: 10_000, parameters: { first: `u${n}.service` } }));
    await settle();
    for (let s = 0; s < 10; s++) clock.advance(1_000);
    while (ended() === undefined) await settle();
    t.is(ended(), 'timeout');
  }
  t.is(await codeFor({ action: 'read' }), 'completed');
});

test('a change that waits is released when the service stops, and its claim is given up', async (t) => {
  const { action, seen } = counted(UNITS);
  const { claims, asked } = fakeClaims({ waits: { lockUnit: never } });
  const { codeFor, drain } = openRunner([action], { claims });
  const ended = codeFor({ key: 'k', parameters: { first: 'a.service' } });
  await settle();
  await drain(1_000);
  t.is(await ended, 'released');
  t.is(asked.at(-1), 'release');
  t.deepEqual(seen, []);
});

test('a change is released only when its claim is given up', async (t) => {
  let giveUp: (value?: unknown) => void = () => {};
  const released = new Promise((resolve) => (giveUp = resolve));
  const { claims, asked } = fakeClaims({ waits: { lockUnit: never }, released });
  const connection = new AbortController();
  const { codeFor } = openRunner([counted(UNITS).action], { claims });
  const call = { key: 'k', parameters: { first: 'a.service' }, signal: connection.signal };
  const code = watched(codeFor(call));
  await settle();
  connection.abort(new ConnectionLost('lost'));
  while (asked.at(-1) !== 'release') await settle();
  await settle();
  t.is(code(), undefined);
  giveUp();
  while (code() === undefined) await settle();
  t.is(code(), 'released');
});

test('the caller of a refused change is told when its claim is given up', async (t) => {
  let giveUp: (value?: unknown) => void = () => {};
  const released = new Promise((resolve) => (giveUp = resolve));
  const { claims, asked } = fakeClaims({ claimed: 'begun', released });
  const { codeFor } = openRunner([counted().action], { claims, maxCalls: 0 });
  const code = watched(codeFor({ key: 'k' }));
  while (asked.at(-1) !== 'release') await settle();
  await settle();
  t.is(code(), undefined);
  giveUp();
  while (code() === undefined) await settle();
  // A lost worker may have made it.
  t.is(code(), 'outcome_unknown');
});

test('a change whose connection is lost while its begin is noted does not begin', async (t) => {
  const connection = new AbortController();
  const { action, seen } = counted();
  const { claims } = fakeClaims({ onBegin: () => connection.abort(new ConnectionLost('lost')) });
  const { codeFor } = openRunner([action], { claims });
  t.is(await codeFor({ key: 'k', signal: connection.signal }), 'released');
  t.deepEqual(seen, []);
});

test('a change whose connection is lost is left to others, also when the store is away', async (t) => {
  for (const maxCalls of [0, 4]) {
    const connection = new AbortController();
    const claims: ChangeClaims = {
      claim: async () => {
        connection.abort(new ConnectionLost('lost'));
        throw AWAY;
      },
    };
    const { codeFor } = openRunner([counted().action], { claims, maxCalls });
    t.is(await codeFor({ key: 'k', signal: connection.signal }), 'released');
  }
});

test('a change that runs is stopped when its worker may lose its claim, and reports its outcome', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims, lose, settled } = fakeClaims();
  const { ask } = openRunner([action], { claims });
  const reply = ask({ key: 'k' });
  while (runs.length === 0) await settle();
  lose(AWAY);
  t.is(runs[0]?.signal.reason, AWAY);
  runs[0]?.resolve({ made: true });
  t.deepEqual(await reply, { status: 'completed', body: { made: true } });
  t.deepEqual(settled, [{ status: 'completed', body: { made: true } }]);
});

for (const waits of ['claim', 'lockUnit'] as const) {
  test(`a change whose connection is lost while it waits at ${waits} is released, and its claim is given up`, async (t) => {
    const { action, seen } = counted(UNITS);
    const connection = new AbortController();
    const { claims, asked, settled } = fakeClaims({ waits: { [waits]: never } });
    const { ask, clock } = openRunner([action], { claims });
    const call = { key: 'k', parameters: { first: 'a.service' }, signal: connection.signal };
    const ended = ask(call);
    await settle();
    connection.abort(new ConnectionLost('lost'));
    t.deepEqual(await ended, { status: 'released' });
    t.is(asked.includes('release'), waits === 'lockUnit');
    t.deepEqual([seen, settled], [[], []]);
    t.is(clock.pending, 0);
  });
}

test('a change whose connection is lost while it waits for its turn in the process is released', async (t) => {
  const { action, runs } = steered(UNITS);
  const { codeFor } = openRunner([action]);
  const connection = new AbortController();
  const call = { parameters: { first: 'a.service' }, signal: connection.signal };
  const first = codeFor(call);
  await settle();
  const second = codeFor(call);
  await settle();
  connection.abort(new ConnectionLost('lost'));
  t.is(await second, 'released');
  runs[0]?.resolve({});
  t.is(await first, 'completed', 'one that has begun goes on');
  t.is(runs.length, 1);
});

test('the error of a change that another worker may have too does not let its caller try again when it is not known what came of it', async (t) => {
  const { claims } = fakeClaims({ fails: { claim: AWAY } });
  const { ask } = openRunner([counted().action], { claims });
  const reply = await ask({ key: 'k', mayBeCopy: true });
  t.like(reply, { body: { code: 'outcome_unknown', details: { stopped_by: 'service_unavailable' } } });
});

test('a stop of the service does not wait for a store that is away', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { claims } = fakeClaims({ waits: { settle: never } });
  const { codeFor, drain, clock } = openRunner([action], { claims });
  const ended = codeFor({ key: 'k' });
  while (runs.length === 0) await settle();
  const drained = drain(4_000);
  clock.advance(4_000);
  t.is(await ended, 'outcome_unknown');
  await drained;
  t.is(clock.pending, 0);
});

test('changes of one unit take turns in one process, also without a store', async (t) => {
  const { action, runs } = steered(UNITS);
  const { ask } = openRunner([action]);
  const calls = ['a', 'b', 'c'].map((target) => ({ target, parameters: { first: 'a.service' } }));
  const same = { target: 'a', parameters: { first: 'b.service', second: 'a.service' } };
  const replies = [...calls, same].map(async (call) => ask(call));
  await settle();
  t.is(runs.length, 3, 'the unit of another cluster is another unit');
  runs[0]?.resolve({});
  await replies[0];
  await settle();
  t.is(runs.length, 4);
  for (const run of runs) run.resolve({});
  t.deepEqual((await Promise.all(replies)).map(codeOf), Array(4).fill('completed'));
});

test('a change whose time ends while it waits for its turn in the process has not begun', async (t) => {
  const { action, runs } = steered(UNITS);
  const { codeFor, clock } = openRunner([action]);
  const parameters = { first: 'a.service' };
  const first = codeFor({ parameters });
  await settle();
  const second = codeFor({ parameters, timeoutMs: 1_000 });
  await settle();
  clock.advance(1_000);
  t.is(await second, 'timeout');
  t.is(runs.length, 1);
  runs[0]?.resolve({});
  t.is(await first, 'completed');
});

test('a change that waits for its unit is listed with how long it has had its turn, and one that runs with how long it runs', async (t) => {
  const { action, runs } = steered(UNITS);
  const { codeFor, running, clock } = openRunner([action]);
  const listed = () => running().map(({ id, runningMs }) => [id, runningMs]);
  const parameters = { first: 'a.service' };
  const first = codeFor({ id: 'r1', parameters });
  while (runs.length < 1) await settle();
  clock.advance(200);
  const second = codeFor({ id: 'r2', parameters });
  clock.advance(50);
  t.deepEqual(listed(), [
    ['r1', 250],
    ['r2', 50],
  ]);
  runs[0]?.resolve({});
  t.is(await first, 'completed');
  while (runs.length < 2) await settle();
  t.deepEqual(listed(), [['r2', 0]]);
  runs[1]?.resolve({});
  t.is(await second, 'completed');
});

test('a cluster that does not respond to changes which had to wait is not tried any more', async (t) => {
  const { action, runs } = steered(CHANGE);
  let found: () => void = () => {};
  const claims: ChangeClaims = {
    claim: async (change, signal) => {
      await new Promise<void>((resolve) => (found = resolve));
      return fakeClaims().claims.claim(change, signal);
    },
  };
  const { codeFor, clock } = openRunner([action], { claims });
  for (let tried = 1; tried <= 3; tried++) {
    const code = codeFor({ key: 'k', timeoutMs: 10_000 });
    await settle();
    clock.advance(5_000);
    found();
    while (runs.length < tried) await settle();
    clock.advance(5_000);
    runs.at(-1)?.reject(runs.at(-1)?.signal.reason);
    t.is(await code, 'outcome_unknown');
  }
  const refused = codeFor();
  await settle();
  t.is(await refused, 'cluster_unreachable');
});

test('a cluster is not taken for one that does not respond because a change waits while another one has run', async (t) => {
  const waiting = fakeClaims({ waits: { lockUnit: never } });
  const claims: ChangeClaims = {
    claim: async (change, signal) =>
      (change.key === 'waits' ? waiting : fakeClaims()).claims.claim(change, signal),
  };
  const { codeFor, clock, events } = openRunner([counted(UNITS).action], { claims });
  const run = async () => codeFor({ key: 'runs', parameters: { first: 'a.service' } });
  t.is(await run(), 'completed', 'it responds');
  const told: number[] = [];
  events.on('withoutResponse', ({ calls }) => told.push(calls));
  void codeFor({ key: 'waits', parameters: { first: 'b.service' } });
  await settle();
  t.is(await run(), 'completed');
  for (let s = 0; s < 3; s++) clock.advance(1_000);
  t.deepEqual(told, []);
});

test('what refuses a change is noted with how long the service has had the change', async (t) => {
  const { action } = steered({ name: 'read' });
  const { claims, changes } = fakeClaims();
  const { codeFor, clock } = openRunner([counted().action, action], { claims, clusterConcurrency: 1 });
  void codeFor({ action: 'read' });
  const waiting = codeFor({ key: 'a', timeoutMs: 3_000 });
  clock.advance(3_000);
  t.is(await waiting, 'timeout');
  t.deepEqual(
    changes.map(({ heldMs }) => heldMs),
    [3_000],
  );
});

/** A request that names its change. */
const NAMED = { key: 'k', idempotencyKey: 'n' } as const;
const MADE: Reply = { status: 'completed', body: { by: 'another' } };

test('a change with an idempotency key is claimed by it, with what it asks for', async (t) => {
  const { action, seen } = counted();
  const { claims, changes, asked } = fakeClaims();
  const clusterToken = (name: string) => (name === 'prod' ? TOKEN : undefined);
  const { codeFor } = openRunner([action], { claims, clusterToken });
  t.is(await codeFor(NAMED), 'completed');
  t.is(await codeFor({ ...NAMED, key: undefined, target: 'prod' }), 'completed');
  t.deepEqual(asked, ['claim', 'begin', 'settle', 'claim', 'begin', 'settle']);
  const [one, other] = changes;
  t.like(one, { key: 'k', id: 'r1', named: { key: 'n', mayWait: true } });
  t.deepEqual(other?.named, one?.named, 'a cluster may be named in two ways');
  t.deepEqual(seen, [false, false]);
  t.is(await codeFor({ key: 'k' }), 'completed');
  t.is(changes[2]?.named, undefined);
});

test('a read ignores an idempotency key, with and without a store', async (t) => {
  const { claims, asked } = fakeClaims({ claimed: MADE, replyOf: 'r0' });
  for (const settings of [{}, { claims }])
    t.is(await openRunner([doing(async () => ({}))], settings).codeFor(NAMED), 'completed');
  t.deepEqual(asked, []);
});

test('a change with the key of an earlier one gets its reply, also when it would be refused, and does not run', async (t) => {
  const { action, seen } = counted();
  const { claims } = fakeClaims({ claimed: MADE, replyOf: 'r0' });
  const replayed = { ...MADE, replyOf: 'r0' };
  t.deepEqual(await openRunner([action], { claims }).ask(NAMED), replayed);
  t.deepEqual(await openRunner([action], { claims }).ask({ ...NAMED, delivery: 'repeated' }), replayed);
  t.deepEqual(await openRunner([action], { claims, maxCalls: 0 }).ask(NAMED), replayed);
  t.deepEqual(seen, []);
});

test('a caller whom the policy denies does not get the reply to an earlier request', async (t) => {
  const policy = { decide: () => ({ allowed: false, needed: 'A rule is needed.' }) as const };
  const { action, seen } = counted();
  const { claims } = fakeClaims({ claimed: MADE, replyOf: 'r0' });
  const { codeFor } = openRunner([action], { claims, policy });
  t.is(await codeFor(NAMED), 'forbidden');
  t.is(await codeFor({ ...NAMED, delivery: 'repeated' }), 'outcome_unknown', 'it may have been allowed then');
  const gone = AbortSignal.abort(new Cancelled('its caller is gone'));
  t.is(await codeFor({ ...NAMED, signal: gone }), 'cancelled', 'the policy was not asked');
  t.deepEqual(seen, []);
});

test('without a store a change with a key is refused, unless another worker may have begun it', async (t) => {
  for (const redelivery of ['refuse', 'run-again'] as const) {
    const { action, seen } = counted({ redelivery });
    const { ask, codeFor } = openRunner([action]);
    const refused = await ask(NAMED);
    t.is(codeOf(refused), 'idempotency_unavailable');
    t.regex(JSON.stringify(refused), /Nothing was done.*CLAIMS_ETCD_URL/);
    t.is(await codeFor({ ...NAMED, delivery: 'repeated' }), 'outcome_unknown');
    t.is(await codeFor({ ...NAMED, parameters: 7 }), 'invalid_parameters');
    t.deepEqual(seen, []);
  }
});

test('a change whose time ends while an earlier request with its key runs is told so, and does not go back', async (t) => {
  const late = new ActionError('timeout', 'the time is over');
  for (const [cause, code] of [
    [late, 'idempotency_key_in_use'],
    [AWAY, 'service_unavailable'],
    [new Shutdown('it stops'), 'released'],
  ] as const) {
    const { claims } = fakeClaims({ fails: { claim: new MadeElsewhere(cause, true) } });
    const { codeFor } = openRunner([counted().action], { claims });
    t.is(await codeFor(NAMED), code);
    if (cause !== late) continue;
    t.is(await codeFor({ ...NAMED, delivery: 'repeated' }), 'outcome_unknown');
    const full = openRunner([counted().action], { claims, maxCalls: 0 });
    t.is(await full.codeFor(NAMED), code);
  }
});

test('what would be refused does not wait for an earlier request with its key', async (t) => {
  const { claims, changes } = fakeClaims();
  const { codeFor } = openRunner([counted().action], { claims, maxCalls: 0 });
  t.is(await codeFor(NAMED), 'cluster_busy');
  t.like(changes[0]?.named, { key: 'n', mayWait: false });
});

test('a key that was used for something else is told, also where the request would be refused', async (t) => {
  const reused = new ActionError('idempotency_key_reused', 'it was used');
  const { claims } = fakeClaims({ fails: { claim: reused } });
  for (const maxCalls of [200, 0])
    t.is(await openRunner([counted().action], { claims, maxCalls }).codeFor(NAMED), 'idempotency_key_reused');
});

test('a request with the key of a change that a lost worker has begun gets what the probe finds out', async (t) => {
  const { action, seen } = counted({ probe: async () => ({ found: true }) });
  const { claims, settled } = fakeClaims({ claimed: 'begun' });
  t.deepEqual(await openRunner([action], { claims }).ask(NAMED), {
    status: 'completed',
    body: { found: true },
  });
  t.deepEqual(settled, [{ status: 'completed', body: { found: true } }]);
  const plain = fakeClaims({ claimed: 'begun' });
  t.is(await openRunner([counted().action], plain).codeFor(NAMED), 'outcome_unknown');
  t.deepEqual(plain.settled.map(codeOf), ['outcome_unknown']);
  t.deepEqual(seen, []);
});

test('a probe and a further run get the id of the request that a lost worker has begun', async (t) => {
  const idOf = async ({ id }: { id: string }) => ({ id });
  const probing = doing(async () => ({}), { ...CHANGE, probe: idOf });
  const running = doing(idOf, { ...CHANGE, name: 'again', redelivery: 'run-again' });
  const { claims } = fakeClaims({ claimed: 'begun', begunFor: 'r0' });
  const { ask } = openRunner([probing, running], { claims });
  for (const action of ['act', 'again']) t.like(await ask({ ...NAMED, action }), { body: { id: 'r0' } });
});

test('a request that ends before the probe of an earlier one begins leaves that to others, and says that the outcome is unknown', async (t) => {
  const { action, seen } = counted({ ...UNITS, probe: async () => ({ found: true }) });
  const store = { claimed: 'begun', fails: { lockUnit: AWAY } } as const;
  for (const [call, asked] of [
    [NAMED, ['claim', 'lock none a.service', 'release']],
    [{ ...NAMED, delivery: 'repeated' }, ['claim', 'lock none a.service', 'settle']],
  ] as const) {
    const fake = fakeClaims(store);
    const { ask } = openRunner([action], fake);
    const told = await ask({ ...call, target: undefined, parameters: { first: 'a.service' } });
    t.is(codeOf(told), 'outcome_unknown');
    t.regex(
      JSON.stringify(told),
      'delivery' in call ? /was delivered before/ : /with the same idempotency key/,
    );
    t.deepEqual(fake.asked, asked);
  }
  const full = fakeClaims({ claimed: 'begun' });
  t.is(
    await openRunner([action], { claims: full.claims, maxCalls: 0 }).codeFor({
      ...NAMED,
      parameters: { first: 'a.service' },
    }),
    'outcome_unknown',
  );
  t.deepEqual(full.asked, ['claim', 'release']);
  t.deepEqual(seen, []);
});
