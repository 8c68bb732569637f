import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { queuesOf } from '../src/rpc/queues.js';
import { keysIn } from './claims/open-store.js';
import { rabbitmq, type TestBroker } from './support/brokers.js';
import { eventually, HUNG_MS } from './support/eventually.js';
import { hasEtcd, ownEtcd } from './support/own-etcd.js';
import { loseWorker, makeQueue, RawCaller } from './support/requests.js';
import { folder } from './support/settings.js';
import { startWorker, type Worker } from './support/worker.js';

// The service as it is run, on a real RabbitMQ, with a policy, an audit, handler processes and a claim store.
const rabbit = rabbitmq();

const IMPORTS = `
  import { appendFileSync, existsSync } from 'node:fs';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { mixed, object, string } from 'yup';
  import { Actions, defineAction, unitName } from 'fleet-manager/plugin';
  const meta = { description: 'Anything.' };
  const result = mixed().meta({ format: 'anything' });`;

const PLUGINS = (directory: string) => ({
  touch: `${IMPORTS}
    export default defineAction({
      name: 'touch', summary: 'Touches a unit.', target: 'none', effect: 'change', result,
      parameters: object({ unit: unitName().required().meta(meta) }),
      handle: async ({ parameters: { unit } }) => ({ unit, pid: process.pid }),
    });`,
  wait: `${IMPORTS}
    export default defineAction({
      name: 'wait', summary: 'Waits until it is stopped.', target: 'none', effect: 'read', result,
      parameters: object({}),
      handle: ({ signal, log }) => {
        log.info('it waits');
        return new Promise((_, reject) => signal.addEventListener('abort', () => {
          log.info('it is stopped', { code: signal.reason.code });
          reject(signal.reason);
        }));
      },
    });`,
  // Goes on for some time when it is stopped.
  lasting: `${IMPORTS}
    export default defineAction({
      name: 'lasting', summary: 'Lasts.', target: 'none', effect: 'change', result,
      parameters: object({ unit: unitName().required().meta(meta) }),
      handle: async ({ signal, id }) => {
        appendFileSync(${JSON.stringify(directory)} + '/' + id + '.lasting', '');
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        await sleep(300);
        appendFileSync(${JSON.stringify(directory)} + '/' + id + '.lasted', '');
        return {};
      },
    });`,
  // Does not wait for what it calls.
  leave: `${IMPORTS}
    export default defineAction({
      name: 'leave', summary: 'Leaves.', target: 'none', effect: 'change', redelivery: 'run-again', result,
      parameters: object({}),
      inject: { actions: Actions },
      handle: async ({ id, repeated }, { actions }) => {
        void actions.call('lasting', { unit: 'web@1.service' }).catch(() => {});
        while (!existsSync(${JSON.stringify(directory)} + '/' + id + '.lasting')) await sleep(5);
        return { repeated };
      },
    });`,
  // Waits until the other one runs, calls an action, and waits until the other one has called it.
  roll: `${IMPORTS}
    export default defineAction({
      name: 'roll', summary: 'Calls another action.', target: 'none', effect: 'change', redelivery: 'run-again', result,
      parameters: object({
        own: unitName().meta(meta), unit: string().meta(meta), calls: string().default('touch').meta(meta), until: string().meta(meta), catches: string().meta(meta),
      }),
      inject: { actions: Actions },
      handle: async ({ parameters: { own, unit, calls, until, catches }, id, repeated }, { actions }) => {
        const both = async (step) => {
          appendFileSync(${JSON.stringify(directory)} + '/' + id + step, '');
          while (until !== undefined && !existsSync(${JSON.stringify(directory)} + '/' + until + step)) await sleep(5);
        };
        await both('.begun');
        const called = actions.call(calls, unit && { unit });
        const reply = await (catches ? called.catch(({ code, name }) => ({ code, name })) : called);
        await both('.called');
        return { ...reply, repeated, own };
      },
    });`,
});

interface World {
  queue: string;
  caller: RawCaller;
  env: Record<string, string>;
  /** The lines of the audit so far. */
  audited: () => Promise<Record<string, unknown>[]>;
  ask: (parameters: object, id?: string, action?: string) => string;
  /** Whether there is a file of this name, which the plugins have written. */
  wrote: (name: string) => boolean;
  reply: (id: string) => Promise<Record<string, unknown>>;
}

async function world(t: ExecutionContext, broker: TestBroker): Promise<World> {
  const directory = await folder(t);
  const plugins = join(directory, 'plugins');
  for (const [name, source] of Object.entries(PLUGINS(directory))) {
    await mkdir(join(plugins, name), { recursive: true });
    await writeFile(join(plugins, name, 'index.js'), source);
  }
  const policy = {
    rules: [
      { callers: ['anonymous'], actions: ['roll', 'touch', 'wait', 'lasting'], units: ['web@*', 'own@*'] },
      { callers: ['anonymous'], actions: ['roll', 'wait', 'leave'] },
    ],
  };
  await writeFile(join(directory, 'policy.json'), JSON.stringify(policy));
  const queue = `nested_${randomUUID()}`;
  await makeQueue(broker, queue);
  t.teardown(async () => {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  const caller = await RawCaller.open(t, broker, queue);
  const audit = join(directory, 'audit.jsonl');
  return {
    queue,
    caller,
    env: {
      AMQP_URL: broker.url,
      QUEUE_NAME: queue,
      PLUGIN_PATHS: plugins,
      POLICY_FILE: join(directory, 'policy.json'),
      AUDIT: audit,
      AUDIT_REQUIRED: 'true',
    },
    audited: async () =>
      (await readFile(audit, 'utf8'))
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    wrote: (name) => existsSync(join(directory, name)),
    ask: (parameters, messageId = randomUUID(), action = 'roll') =>
      caller.send(
        { action, action_parameters: parameters },
        { messageId, persistent: true, headers: { 'timeout-ms': HUNG_MS } },
      ),
    reply: async (id) => (await caller.replyFor(id)).answer.response_body,
  };
}

const shown = (lines: Record<string, unknown>[]) =>
  lines.map(({ event, action, units, outcome }) => [event, action, units, outcome]);
const logged = ({ lines }: Worker, message: string) => lines.filter((line) => line.message === message);

if (rabbit !== undefined) {
  test('the policy decides on a nested change, and it is audited as a change of its own', async (t) => {
    const { env, ask, reply, audited } = await world(t, rabbit);
    const worker = await startWorker(t, env);
    t.like(await reply(ask({ unit: 'web@1.service' })), { unit: 'web@1.service', pid: worker.process.pid });
    // A reply can arrive before the worker has noted that it was sent.
    await eventually('its end is written', async () => (await audited()).length === 4);
    t.like(await reply(ask({ unit: 'db@1.service' })), { code: 'forbidden' });
    await eventually('its lines are written', async () => (await audited()).length === 7);
    const lines = await audited();
    t.deepEqual(shown(lines), [
      ['begun', 'roll', undefined, undefined],
      ['begun', 'touch', ['web@1.service'], undefined],
      ['settled', 'touch', ['web@1.service'], 'completed'],
      ['settled', 'roll', undefined, 'completed'],
      ['begun', 'roll', undefined, undefined],
      ['denied', 'touch', ['db@1.service'], 'forbidden'],
      ['settled', 'roll', undefined, 'forbidden'],
    ]);
    t.is(new Set(lines.slice(0, 4).map(({ request }) => request)).size, 1);
    t.like(lines[1], { caller: 'anonymous', parameters: { unit: 'web@1.service' } });
    t.deepEqual(
      logged(worker, 'nested change started').map(({ request, action, unit, within }) => [
        request === lines[1]?.request,
        action,
        unit,
        within,
      ]),
      [[true, 'touch', 'web@1.service', 'roll']],
    );
  });

  test('the same holds for a repeated request, whose handlers run in another process', async (t) => {
    const { env, queue, ask, reply, audited } = await world(t, rabbit);
    const ids = [
      ask({ unit: 'web@1.service', own: 'own@1.service' }),
      ask({ unit: 'db@1.service', catches: 'all' }),
      ask({ calls: 'none', catches: 'all' }),
    ];
    await loseWorker(rabbit, queue, ids.length);
    const worker = await startWorker(t, env);
    const [done, denied, wrong] = await Promise.all(ids.map(reply));
    t.like(done, { unit: 'web@1.service', repeated: true });
    t.not(done?.pid, worker.process.pid);
    t.like(denied, { code: 'forbidden', repeated: true });
    t.like(wrong, { code: 'unknown_action', name: 'ActionCallError' });
    await eventually('its lines are written', async () => (await audited()).length === 9);
    const ofNested = (await audited()).filter(({ action }) => action === 'touch');
    const texts = shown(ofNested).map((each) => JSON.stringify(each));
    t.deepEqual(
      new Set(texts.toSorted((one, another) => (one < another ? -1 : 1))),
      new Set([
        '["begun","touch",["web@1.service"],null]',
        '["denied","touch",["db@1.service"],"forbidden"]',
        '["settled","touch",["web@1.service"],"completed"]',
      ]),
    );
  });

  test('two repeated changes that want the unit of each other, in one handler process, do not wait for each other', async (t) => {
    const { env, queue, ask, reply } = await world(t, rabbit);
    const [a, b] = [randomUUID(), randomUUID()];
    const ids = [
      ask({ own: 'web@1.service', unit: 'web@2.service', until: b, catches: 'all' }, a),
      ask({ own: 'web@2.service', unit: 'web@1.service', until: a, catches: 'all' }, b),
    ];
    await loseWorker(rabbit, queue, ids.length);
    await startWorker(t, env);
    for (const id of ids) t.like(await reply(id), { code: 'cluster_busy' });
  });

  for (const repeated of [false, true])
    test(`a request has its reply when the change that it did not wait for has ended: ${repeated ? 'in a handler process' : 'in the worker'}`, async (t) => {
      const { env, queue, ask, reply, wrote } = await world(t, rabbit);
      const name = randomUUID();
      const id = ask({}, name, 'leave');
      if (repeated) await loseWorker(rabbit, queue, 1);
      await startWorker(t, env);
      t.like(await reply(id), { repeated });
      t.true(wrote(`${name}.lasted`));
    });

  test('a shutdown stops the nested run, and the caller gets the reply', async (t) => {
    const { env, ask, reply } = await world(t, rabbit);
    const worker = await startWorker(t, { ...env, SHUTDOWN_GRACE_SECONDS: '1' });
    const id = ask({ calls: 'wait' });
    await eventually('it waits', () => logged(worker, 'it waits').length === 1);
    worker.process.kill('SIGTERM');
    // A change that does not report what it has done.
    t.like(await reply(id), { code: 'outcome_unknown', details: { stopped_by: 'cancelled' } });
    t.is(await worker.ended, 0);
    t.like(logged(worker, 'it is stopped')[0], {
      action: 'wait',
      request: logged(worker, 'change started')[0]?.request,
      code: 'cancelled',
    });
  });
}

if (rabbit !== undefined && hasEtcd)
  test('with a claim store, workers lock the units of nested changes, and crossing ones do not wait for each other', async (t) => {
    const { env, ask, reply } = await world(t, rabbit);
    const etcd = await ownEtcd(t);
    const claims = {
      ...env,
      CLAIMS_ETCD_URL: etcd.url,
      PREFETCH: '4',
      AUDIT: 'off',
      AUDIT_REQUIRED: 'false',
    };
    const workers = [await startWorker(t, claims), await startWorker(t, claims)];
    const [a, b] = [randomUUID(), randomUUID()];
    const ids = [
      ask({ own: 'web@1.service', unit: 'web@2.service', until: b }, a),
      ask({ own: 'web@2.service', unit: 'web@1.service', until: a }, b),
    ];
    for (const id of ids) t.like(await reply(id), { code: 'cluster_busy' });
    const begun = workers.map((worker) => logged(worker, 'change started').length);
    t.deepEqual(begun, [1, 1], 'each worker made one of them');
    t.like(await reply(ask({ unit: 'web@1.service' })), { unit: 'web@1.service' });
    t.like(await reply(ask({ unit: 'web@2.service', own: 'web@1.service' })), { unit: 'web@2.service' });
    await eventually(
      'no unit is locked',
      async () => (await keysIn(etcd, '/fleet-manager/units/')).length === 0,
    );
  });
