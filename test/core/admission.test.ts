import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { Cluster } from '../../src/api/cluster.js';
import { type Action, ActionError } from '../../src/plugin.js';
import { type Settled } from '../../src/core/call.js';
import { doing, held } from '../support/actions.js';
import { callOf, codeOf, openRunner, settle, steered, watched } from '../support/open-runner.js';

/** The field that is reported as wrong. */
async function wrongField(t: ExecutionContext, settling: Promise<Settled>): Promise<unknown> {
  const answer = await settling;
  t.is(codeOf(answer), 'invalid_request');
  const fields = (answer as { body: { details?: { fields?: { field: string }[] } } }).body.details?.fields;
  return fields?.[0]?.field;
}

for (const [maxCalls, fits, target, which] of [
  [8, 6, 'busy', 'for one cluster'],
  [10, 8, 'busy', 'for one cluster'],
  [1, 1, 'busy', 'for one cluster'],
  [200, 150, 'busy', 'for one cluster'],
  [8, 6, undefined, 'without a cluster'],
  [200, 150, undefined, 'without a cluster'],
] as const) {
  test(`of ${maxCalls} requests that can be held, ${fits} may be ${which}, and further ones are refused`, async (t) => {
    const { action, begun, finishRun } = held();
    const { codeFor } = openRunner([action], { maxCalls, concurrency: 2, clusterConcurrency: 1 });
    const taken = Array.from({ length: fits }, () => codeFor({ target }));
    t.is(await codeFor({ target }), 'cluster_busy');
    const other = codeFor({ target: 'other' });
    t.is(begun(), 2);
    finishRun();
    t.is(await other, 'completed');
    await settle();
    // One has ended, so there is room for one more.
    const next = codeFor({ target });
    t.is(await codeFor({ target }), 'cluster_busy');
    for (let n = 0; n < fits; n++) {
      finishRun();
      await settle();
    }
    t.deepEqual(await Promise.all([...taken, next]), Array(fits + 1).fill('completed'));
  });
}

for (const [target, which] of [
  ['busy', 'for this cluster'],
  [undefined, 'without a cluster'],
] as const) {
  test(`a request that finds no room is told when to try again, and that requests ${which} wait`, async (t) => {
    const { ask } = openRunner([held().action], { maxCalls: 0 });
    t.deepEqual(await ask({ target }), {
      status: 'error',
      body: {
        errors: [`Too many requests ${which} are waiting; try again in a few seconds`],
        code: 'cluster_busy',
        details: { retry_after_ms: 1_000 },
      },
    });
  });
}

test("a deadline is at most the action's own, and at most five minutes", async (t) => {
  for (const [definition, timeoutMs, endsAfter] of [
    [{ timeoutMs: 2_000 }, 60_000, 2_000],
    [{ timeoutMs: 2_000 }, undefined, 2_000],
    [{ timeoutMs: 2_000 }, 1_999, 1_999],
    [{}, 3_600_000, 300_000],
    [{}, undefined, 300_000],
    [{}, null, 300_000],
    [{}, 299_999, 299_999],
  ] as const) {
    const { codeFor, clock } = openRunner([held(definition).action]);
    const code = watched(codeFor({ timeoutMs }));
    clock.advance(endsAfter - 1);
    await settle();
    t.is(code(), undefined);
    clock.advance(1);
    await settle();
    t.is(code(), 'timeout');
  }
});

test('the error of a request that took too long says how long it could take', async (t) => {
  for (const [timeoutMs, told] of [
    [60_000, 2_000],
    [1_999, 1_999],
  ]) {
    const { ask, clock } = openRunner([held({ timeoutMs: 2_000 }).action]);
    const reply = ask({ timeoutMs, waitedMs: 500 });
    clock.advance(2_000);
    t.like(await reply, { body: { errors: [`Request has timed out during execution! (after ${told} ms)`] } });
  }
});

test('a request whose time is over is told so, also when there is no room', async (t) => {
  const { codeFor } = openRunner([doing(async () => t.fail())], { maxCalls: 0 });
  t.is(await codeFor({ timeoutMs: 1_000, waitedMs: 1_000 }), 'timeout');
  t.is(await codeFor({ timeoutMs: 1_000, waitedMs: 999 }), 'cluster_busy');
});

test('a time limit is a number of milliseconds, also as a string of digits', async (t) => {
  for (const [timeoutMs, endsAfter] of [
    [1, 1],
    ['1', 1],
    ['250', 250],
    ['00250', 250],
    [250, 250],
    [1.5, 1.5],
    ['999999999999999', 300_000],
  ] as const) {
    const { codeFor, clock } = openRunner([held().action]);
    const code = watched(codeFor({ timeoutMs }));
    clock.advance(endsAfter - 0.25);
    await settle();
    t.is(code(), undefined, String(timeoutMs));
    clock.advance(0.25);
    await settle();
    t.is(code(), 'timeout', String(timeoutMs));
  }
});

test('an invalid time limit is refused by name, and nothing is run', async (t) => {
  const { ask } = openRunner([doing(async () => t.fail())]);
  const noTimes = [
    0,
    0.5,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    '0',
    '',
    ' 5',
    '5 ',
    '5ms',
    '1e3',
    '0x10',
    '2.5',
    '-1',
    '1234567890123456',
    'soon',
    true,
    5n,
    {},
    [5],
    new Date(5),
  ];
  for (const timeoutMs of noTimes) {
    const reply = await ask({ timeoutMs });
    t.like(reply, { status: 'error', body: { code: 'invalid_request' } }, inspect(timeoutMs));
    t.like(reply, { body: { details: { fields: { 0: { field: 'timeout-ms' } } } } }, inspect(timeoutMs));
  }
});

test('a repeated delivery is run again only if its action allows that', async (t) => {
  const ran: string[] = [];
  const actionOf = (name: string, definition: Parameters<typeof doing>[1]) =>
    doing(
      async () => {
        ran.push(name);
        return {};
      },
      { name, ...definition },
    );
  const { ask, codeFor } = openRunner([
    actionOf('read', { effect: 'read' }),
    actionOf('read_once', { effect: 'read', redelivery: 'refuse' }),
    actionOf('change', { effect: 'change' }),
    actionOf('change_again', { effect: 'change', redelivery: 'run-again' }),
  ]);
  const repeated = async (action: string) => codeFor({ action, delivery: 'repeated' });
  t.is(await repeated('read'), 'completed');
  t.is(await repeated('read_once'), 'outcome_unknown');
  t.is(await repeated('change'), 'outcome_unknown');
  t.is(await repeated('change_again'), 'completed');
  t.deepEqual(ran, ['read', 'change_again']);
  for (const action of ['read', 'read_once', 'change', 'change_again'])
    t.is(await codeFor({ action, delivery: 'first' }), 'completed');
  t.is(await codeFor({ action: 'change', delivery: 'repeated', key: 'k' }), 'outcome_unknown', 'no store');
  const reply = await ask({ action: 'change', delivery: 'repeated' });
  t.regex(JSON.stringify(reply), /change may or may not have been done/);
});

for (const [what, error, code] of [
  ['that its caller could send again', new ActionError('cluster_unreachable', 'down'), 'outcome_unknown'],
  ['that its caller cannot send again', new ActionError('unit_failed', 'down'), 'unit_failed'],
  ['that was not expected', new TypeError('down'), 'internal'],
] as const) {
  test(`a repeated change that ends with an error ${what} settles with ${code}`, async (t) => {
    const failing = (effect: 'read' | 'change') =>
      doing(
        async () => {
          throw error;
        },
        { name: effect, effect, redelivery: 'run-again' },
      );
    const { ask, codeFor } = openRunner([failing('read'), failing('change')]);
    const own = error instanceof ActionError ? error.code : code;
    t.is(await codeFor({ action: 'change', delivery: 'first' }), own);
    t.is(await codeFor({ action: 'read', delivery: 'repeated' }), own);
    const repeated = await ask({ action: 'change', delivery: 'repeated' });
    t.like(repeated, { body: { code } });
    if (code === 'outcome_unknown')
      t.like(repeated, { body: { details: { stopped_by: 'cluster_unreachable' } } });
  });
}

test('a repeated change for which there is no room has an unknown outcome', async (t) => {
  const { action } = held({ effect: 'change', redelivery: 'run-again' });
  const { codeFor } = openRunner([action], { maxCalls: 1 });
  void codeFor();
  t.is(await codeFor({ delivery: 'first' }), 'cluster_busy');
  t.is(await codeFor({ delivery: 'repeated' }), 'outcome_unknown');
});

test('a repeated delivery that is invalid gets its validation error, not outcome_unknown', async (t) => {
  const { codeFor } = openRunner([doing(async () => t.fail(), { effect: 'change' })]);
  t.is(await codeFor({ delivery: 'repeated', parameters: { no: 1 } }), 'invalid_parameters');
  t.is(await codeFor({ delivery: 'repeated', target: '../bad' }), 'invalid_request');
  t.is(await codeFor({ delivery: 'repeated', timeoutMs: 0 }), 'invalid_request');
});

test('a read without a waiting caller is not run, a change is', async (t) => {
  const ran: string[] = [];
  const actionOf = (effect: 'read' | 'change') =>
    doing(
      async () => {
        ran.push(effect);
        return {};
      },
      { name: effect, effect },
    );
  const { codeFor, clock } = openRunner([actionOf('read'), actionOf('change')]);
  t.is(await codeFor({ action: 'read', wantsReply: false }), 'invalid_request');
  t.is(await codeFor({ action: 'change', wantsReply: false }), 'completed');
  t.deepEqual(ran, ['change']);
  t.is(clock.pending, 0);
});

test('an unknown action is refused with the names of the served actions', async (t) => {
  const { ask } = openRunner([
    doing(async () => ({}), { name: 'b_act' }),
    doing(async () => ({}), { name: 'a_act' }),
  ]);
  const reply = await ask({ action: 'x'.repeat(101) });
  const message = `The following FleetManager action is not supported:  ${'x'.repeat(100)}`;
  t.deepEqual(reply, {
    status: 'error',
    body: {
      errors: [message],
      code: 'unknown_action',
      details: { fields: [{ field: 'request_body.action', message }], actions: ['a_act', 'b_act'] },
    },
  });
});

test('an action without a name is an invalid request', async (t) => {
  const { ask } = openRunner([]);
  for (const action of ['', undefined, null, 3, {}, ['act']]) {
    t.like(await ask({ action }), {
      body: { code: 'invalid_request', details: { fields: { 0: { field: 'request_body.action' } } } },
    });
  }
});

test('an action gets the cluster only if its target allows one', async (t) => {
  const clusters: unknown[] = [];
  const actionOf = (target: Action['target']) =>
    doing(
      async ({ cluster }) => {
        clusters.push(cluster === undefined ? undefined : 'a cluster');
        return {};
      },
      { name: `with_${target}`, target },
    );
  const { ask, codeFor } = openRunner([actionOf('cluster'), actionOf('optional'), actionOf('none')]);
  const field = 'request_body.etcd_token';
  for (const target of [undefined, null]) {
    const missing = ask({ action: 'with_cluster', target });
    t.is(await wrongField(t, missing), field);
    t.like(await missing, {
      body: { errors: [`${field} is missing: with_cluster runs against a cluster`] },
    });
    t.is(await codeFor({ action: 'with_optional', target }), 'completed');
    t.is(await codeFor({ action: 'with_none', target }), 'completed');
  }
  t.is(await codeFor({ action: 'with_cluster' }), 'completed');
  t.is(await codeFor({ action: 'with_optional' }), 'completed');
  const excess = ask({ action: 'with_none' });
  t.is(await wrongField(t, excess), field);
  t.like(await excess, { body: { errors: [`${field} must be left out: with_none uses no cluster`] } });
  t.deepEqual(clusters, [undefined, undefined, undefined, undefined, 'a cluster', 'a cluster']);
});

test('an etcd token is 1 to 128 of the characters A-Z a-z 0-9 _ -', async (t) => {
  const { ask, codeFor } = openRunner([doing(async () => ({}), { target: 'cluster' })]);
  for (const target of ['a', 'aZ09_-', 'a'.repeat(128)]) t.is(await codeFor({ target }), 'completed');
  for (const target of ['', 'a'.repeat(129), 'a/b', 'a.b', 'a b', 'a\n', 'é', 5, true, {}, ['a']])
    t.is(await wrongField(t, ask({ target })), 'request_body.etcd_token', inspect(target));
});

test('invalid parameters are refused, and nothing is run', async (t) => {
  const { codeFor, clock } = openRunner([doing(async () => t.fail())]);
  t.is(await codeFor({ parameters: { text: 5 } }), 'invalid_parameters');
  t.is(clock.pending, 0);
});

test('a problem that the transport found is refused with its field', async (t) => {
  const { runner } = openRunner([doing(async () => t.fail())]);
  const malformed = { field: 'body.x', message: 'body.x is not part of a request' };
  t.like(await runner.run(callOf({ malformed })), {
    status: 'error',
    body: { code: 'invalid_request', errors: [malformed.message], details: { fields: [malformed] } },
  });
});

test('errors name fields as the callers of the transport do', async (t) => {
  const { runner } = openRunner([doing(async () => t.fail(), { target: 'cluster' })]);
  for (const [changes, field] of [
    [{ action: 7 }, 'request_body.action'],
    [{ target: undefined }, 'request_body.etcd_token'],
    [{ target: '../etc' }, 'request_body.etcd_token'],
    [{ timeoutMs: 'soon' }, 'timeout-ms'],
  ] as const) {
    const settled = await runner.run(callOf(changes));
    t.like(settled, { body: { code: 'invalid_request', details: { fields: [{ field }] } } });
  }
});

test('a cluster has the same key and name by its name and by its token, and shares their lane', async (t) => {
  const seen: unknown[] = [];
  const { action, runs } = steered({ target: 'cluster' });
  const { ask, events } = openRunner([action], {
    clusterConcurrency: 1,
    clusterToken: (name) => (name === 'prod' ? 'Zqtoken' : undefined),
    clusterName: (token) => (token === 'Zqtoken' ? 'prod' : undefined),
  });
  events.on('admitted', ({ cluster }) => seen.push([cluster?.key, cluster?.name]));
  for (const target of ['prod', 'Zqtoken', 'other']) void ask({ target });
  await settle();
  const { key } = new Cluster('Zqtoken');
  t.deepEqual(seen, [
    [key, 'prod'],
    [key, 'prod'],
    [new Cluster('other').key, undefined],
  ]);
  t.is(runs.length, 2, 'one of each cluster');
  t.false(JSON.stringify(seen).includes('Zq'));
});
