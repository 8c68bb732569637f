import test from 'ava';
import { object, string } from 'yup';
import { Audit } from '../../../src/access/audit/audit.js';
import { readLine } from '../../../src/access/audit/audit-line.js';
import type { AwaitedLine } from '../../../src/access/audit/audit-queue.js';
import type { SinkLine } from '../../../src/access/audit/audit-sink.js';
import type { AccessPolicy } from '../../../src/core/access-policy.js';
import { type Action, unitName } from '../../../src/plugin.js';
import { Cluster } from '../../../src/api/cluster.js';
import { doing } from '../../support/actions.js';
import { planted } from '../../support/planted-secrets.js';
import { callOf, openRunner, settle, steered, TOKEN, watched } from '../../support/open-runner.js';
import { fakeClaims } from '../../core/fake-claims.js';

const PLANTED = planted('audit');
const CHANGE = {
  name: 'act',
  effect: 'change',
  parameters: object({
    unit: unitName().meta({ description: 'A unit.' }),
    pepper: string().meta({ secret: true, description: 'A secret.' }),
    db_password: string().meta({ description: 'A password.' }),
    mode: string().default('fast').meta({ description: 'How.' }),
  }),
} as const;
const PARAMETERS = { unit: 'web.service', pepper: PLANTED, db_password: PLANTED };
const CALLER = { name: 'ci', verifiedBy: 'broker' } as const;

/** A runner whose calls are audited, and the lines of the audit. */
function audited(
  actions: readonly Action[],
  settings: Partial<ConstructorParameters<typeof Audit>[0]> & Parameters<typeof openRunner>[1] = {},
) {
  const { required = false, reads = false, ...more } = settings;
  const lines: Record<string, unknown>[] = [];
  const texts: string[] = [];
  const world = {
    lines,
    texts,
    /** Why lines are not kept; undefined: they are. */
    problem: undefined as string | undefined,
    outcome: undefined as Promise<string | undefined> | undefined,
    withdrawn: 0,
    /** How many lines leave room for those of changes. */
    others: 0,
  };
  const add = ({ text }: SinkLine, { isOfChange = true } = {}) => {
    if (!isOfChange) world.others++;
    texts.push(text);
    lines.push(readLine(text) ?? { unreadable: text });
  };
  const addAwaited = (line: SinkLine): AwaitedLine => {
    if (world.problem === undefined) add(line);
    return {
      outcome: world.outcome ?? Promise.resolve(world.problem),
      withdraw: () => {
        world.withdrawn++;
        return world.problem !== undefined;
      },
    };
  };
  let audit: Audit | undefined;
  const running = openRunner(actions, {
    beforeChange: async (change, signal) => audit?.beforeChange(change, signal),
    ...more,
  });
  const { events, clock } = running;
  audit = new Audit({
    events,
    queue: { add, addAwaited },
    required,
    reads,
    worker: 'worker1',
    version: '1.2.3',
    clock,
  });
  return { ...running, world };
}

test('a change has two lines: one before it begins, and one with what its caller got', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { ask, clock, world } = audited([action]);
  const reply = ask({ caller: CALLER, parameters: PARAMETERS, attempt: 2, door: 'http' });
  while (runs.length === 0) await settle();
  t.is(world.lines.length, 1);
  clock.advance(1_500);
  runs[0]?.resolve({});
  await reply;
  const common = {
    request: 'r1',
    caller: 'ci',
    verified_by: 'broker',
    door: 'http',
    action: 'act',
    effect: 'change',
    work: 'run',
    cluster: new Cluster(TOKEN).hash,
    units: ['web.service'],
    decision: 'allowed',
    attempt: 2,
    worker: 'worker1',
    version: '1.2.3',
  };
  const [begun, settled] = world.lines;
  t.like(begun, {
    ...common,
    event: 'begun',
    parameters: { unit: 'web.service', pepper: '***', db_password: '***', mode: 'fast' },
  });
  t.like(settled, {
    ...common,
    event: 'settled',
    id: begun?.id,
    outcome: 'completed',
    reply: 'sent',
    took_ms: 1_500,
  });
  t.regex(String(begun?.time), /^2026-01-01T00:16:40\.000Z$/);
  t.false(world.texts.join('').includes(PLANTED));
  t.false(world.texts.join('').includes(TOKEN));
  t.false('trace_id' in (begun ?? {}));
});

test('a change does not begin before its line is kept', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { ask, world } = audited([action]);
  let keep = (_problem?: string) => {};
  world.outcome = new Promise((resolve) => (keep = resolve));
  const reply = ask({});
  for (let times = 0; times < 5; times++) await settle();
  t.is(runs.length, 0);
  keep();
  while (runs.length === 0) await settle();
  runs[0]?.resolve({});
  t.is((await reply).status, 'completed');
});

test('when a line cannot be kept, a change begins all the same', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { codeFor, world } = audited([action]);
  world.problem = 'the disk is full';
  const code = codeFor();
  while (runs.length === 0) await settle();
  runs[0]?.resolve({});
  t.is(await code, 'completed');
  t.is(world.withdrawn, 0);
});

for (const claims of [undefined, fakeClaims()])
  test(`with AUDIT_REQUIRED no change begins whose line cannot be kept${claims ? ', nor its claim' : ''}`, async (t) => {
    const { action, runs } = steered(CHANGE);
    const { ask, world } = audited([action], { required: true, ...(claims && { claims: claims.claims }) });
    world.problem = 'the disk is full';
    const settled = await ask({ key: 'k', parameters: { unit: 'web.service' } });
    t.like(settled, {
      status: 'error',
      body: { code: 'service_unavailable', details: { retry_after_ms: 1_000 } },
    });
    t.regex(JSON.stringify(settled), /not begun.*audited.*the disk is full/);
    t.is(runs.length, 0);
    t.false(claims?.asked.includes('begin') ?? false);
    t.deepEqual(world.lines, [], 'its line is taken back');
  });

test('a change that is stopped while its line is written does not begin, and its lines say so', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { codeFor, clock, world } = audited([action]);
  world.outcome = new Promise(() => {});
  const code = codeFor({ timeoutMs: 1_000 });
  for (let times = 0; times < 5; times++) await settle();
  clock.advance(1_000);
  t.is(await code, 'timeout');
  t.is(runs.length, 0);
  t.deepEqual(
    world.lines.map(({ event, outcome }) => [event, outcome]),
    [
      ['begun', undefined],
      ['settled', 'timeout'],
    ],
  );
});

test('the second line has what the caller got: another reply, or none', async (t) => {
  const { action, runs } = steered(CHANGE);
  const { runner, events, clock, world } = audited([action]);
  const run = async () => {
    const call = callOf();
    const settled = runner.run(call);
    while (runs.length === 0) await settle();
    runs.pop()?.resolve({});
    await settled;
    return call;
  };
  const at = clock.now();
  events.emit('answered', {
    call: await run(),
    reply: { status: 'error', body: { code: 'answer_too_large', errors: [] } },
    dropped: false,
    at,
  });
  events.emit('answered', { call: await run(), reply: { status: 'completed', body: {} }, dropped: true, at });
  events.emit('unanswered', { call: await run(), at });
  t.deepEqual(
    world.lines.filter(({ event }) => event === 'settled').map(({ outcome, reply }) => [outcome, reply]),
    [
      ['answer_too_large', 'sent'],
      ['completed', 'dropped'],
      ['completed', 'unanswered'],
    ],
  );
});

test('the lines have the trace of the request', async (t) => {
  const { codeFor, world } = audited([doing(async () => ({}), CHANGE)]);
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  t.is(await codeFor({ context: { traceparent } }), 'completed');
  t.deepEqual(
    world.lines.map((line) => line.trace_id),
    ['0af7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c'],
  );
});

test('a probe says that it is one', async (t) => {
  const claims = fakeClaims({ claimed: 'begun' });
  const action = doing(async () => ({}), { ...CHANGE, probe: async () => ({ found: true }) });
  const { codeFor, world } = audited([action], { claims: claims.claims });
  t.is(await codeFor({ key: 'k', delivery: 'repeated', parameters: { unit: 'web.service' } }), 'completed');
  t.deepEqual(
    world.lines.map(({ event, work }) => [event, work]),
    [
      ['begun', 'probe'],
      ['settled', 'probe'],
    ],
  );
});

test('what does not begin has no line: a refused change, one that is released, and one that another worker has made', async (t) => {
  const { action } = steered(CHANGE);
  const { runner, codeFor, world } = audited([action], { concurrency: 1 });
  t.is(await codeFor({ parameters: { unknown: 1 } }), 'invalid_parameters');
  const running = watched(codeFor());
  const waiting = codeFor();
  await settle();
  void runner.drain(0);
  t.is(await waiting, 'released');
  t.is(running(), undefined);
  t.is(world.lines.length, 1);
  const claims = fakeClaims({ claimed: { status: 'completed', body: {} } });
  const other = audited([action], { claims: claims.claims });
  t.is(await other.codeFor({ key: 'k', delivery: 'repeated' }), 'completed');
  t.deepEqual(other.world.lines, []);
});

test('a change with the idempotency key of an earlier one has a line that says so, and no other', async (t) => {
  const { action } = steered(CHANGE);
  const { claims } = fakeClaims({ claimed: { status: 'completed', body: {} }, replyOf: 'r0' });
  const { codeFor, world } = audited([action], { claims });
  const call = { key: 'k', idempotencyKey: 'n', caller: CALLER, parameters: PARAMETERS };
  t.is(await codeFor(call), 'completed');
  t.is(world.lines.length, 1);
  t.like(world.lines[0], {
    event: 'reused',
    request: 'r1',
    reply_of: 'r0',
    caller: 'ci',
    action: 'act',
    units: ['web.service'],
    outcome: 'completed',
    reply: 'sent',
  });
  t.is(world.others, 1);
  t.false(world.texts.join('').includes(PLANTED));
});

test('a change that is released after its line was written has a second one that says so', async (t) => {
  const { action } = steered(CHANGE);
  const { runner, codeFor, world } = audited([action]);
  world.outcome = new Promise(() => {});
  const code = codeFor();
  for (let times = 0; times < 5; times++) await settle();
  void runner.drain(0);
  t.is(await code, 'released');
  t.like(world.lines[1], { event: 'settled', outcome: 'released' });
});

const policy: AccessPolicy = {
  decide: ({ action }) =>
    action.name === 'may'
      ? { allowed: true, rule: 'operators', units: undefined }
      : { allowed: false, needed: 'A rule that allows it.' },
};

test('a denial has one line, with the parameters masked; an allowed change names its rule', async (t) => {
  const actions = [doing(async () => ({}), CHANGE), doing(async () => ({}), { ...CHANGE, name: 'may' })];
  const { codeFor, world } = audited(actions, { policy });
  t.is(await codeFor({ caller: CALLER, parameters: PARAMETERS }), 'forbidden');
  t.like(world.lines[0], {
    event: 'denied',
    caller: 'ci',
    action: 'act',
    decision: 'denied',
    needed: 'A rule that allows it.',
    outcome: 'forbidden',
    parameters: { unit: 'web.service', pepper: '***' },
  });
  t.is(world.lines.length, 1);
  t.is(await codeFor({ action: 'may', parameters: PARAMETERS }), 'completed');
  t.deepEqual(
    world.lines.slice(1).map(({ event, rule }) => [event, rule]),
    [
      ['begun', 'operators'],
      ['settled', 'operators'],
    ],
  );
  t.false(world.texts.join('').includes(PLANTED));
});

test('reads and their denials are audited only when that is asked for, each with one line', async (t) => {
  const read = doing(async () => ({}), { parameters: CHANGE.parameters });
  const may = doing(async () => ({}), { name: 'may', parameters: CHANGE.parameters });
  for (const reads of [false, true]) {
    const { codeFor, world } = audited([read, may], { policy, reads });
    t.is(await codeFor({ parameters: PARAMETERS }), 'forbidden');
    t.is(await codeFor({ action: 'may', parameters: PARAMETERS }), 'completed');
    t.deepEqual(
      world.lines.map(({ event, outcome, effect }) => [event, outcome, effect]),
      reads
        ? [
            ['denied', 'forbidden', 'read'],
            ['settled', 'completed', 'read'],
          ]
        : [],
    );
    t.is(world.others, reads ? 2 : 0);
    if (reads)
      t.like(world.lines[1], { parameters: { unit: 'web.service', pepper: '***' }, rule: 'operators' });
  }
});

test('what a caller chooses cannot break a line, or make it long', async (t) => {
  const { codeFor, world } = audited([doing(async () => ({}), CHANGE)]);
  await codeFor({
    id: `r\n\u202e\u001b[2J${'x'.repeat(10_000)}`,
    parameters: { mode: `\u2028${'y'.repeat(10_000)}` },
  });
  t.is(world.lines.length, 2);
  for (const text of world.texts) {
    t.notRegex(text, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    t.true(text.length < 2_000, text);
  }
});
