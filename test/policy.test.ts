import { randomUUID } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { queuesOf } from '../src/rpc/queues.js';
import { type Sandbox, startSandbox } from '../src/sandbox/sandbox.js';
import { eventually } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { type OwnBroker, startOwnBroker } from './support/own-broker.js';
import { startWorker, type Worker } from './support/worker.js';

// The service as it is run, on a RabbitMQ of its own with a user for each caller, and on a simulated cluster.
const isPossible =
  (process.env.RABBITMQ_URL ?? noteSkipped('the policy on RabbitMQ', 'RABBITMQ_URL')) !== undefined;

interface Reply {
  status: string;
  response_body: { code?: string; errors?: string[] } & { name: string }[];
}

/** Sends requests as one user of the broker. */
type Ask = (request: object, properties?: Options.Publish) => Promise<Reply>;

interface World {
  sandbox: Sandbox;
  worker: Worker;
  /** Replaces the policy at once, and has it read. */
  setPolicy: (text: string) => Promise<void>;
  callerNamed: (name: string) => Promise<Ask>;
}

/** The user of the service on the broker. */
const SERVICE = 'fleet-service';

/** A service whose cluster `prod` has ten units of each kind; what it is given goes with the test. */
async function world(t: ExecutionContext, broker: OwnBroker, policy: string, answerMs = 0): Promise<World> {
  const sandbox = await startSandbox({
    delays: { answer: answerMs },
    units: Array.from({ length: 10 }, (_, index) => ['web', 'db'].map((kind) => `${kind}@${index}.service`))
      .flat()
      .map((name) => ({
        name,
        options: [{ section: 'Service', name: 'ExecStart', value: '/bin/sleep 1d' }],
      })),
  });
  t.teardown(async () => sandbox.stop());
  const folder = await mkdtemp(join(tmpdir(), 'policy-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  const file = join(folder, 'policy.yaml');
  await writeFile(file, policy);
  await writeFile(join(folder, 'clusters.json'), JSON.stringify({ prod: { etcd_token: sandbox.token } }));
  const queue = `policy_${randomUUID()}`;
  const service = await broker.user(SERVICE, {});
  t.teardown(async () => {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  const worker = await startWorker(t, {
    AMQP_URL: service.url,
    QUEUE_NAME: queue,
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
    CLUSTERS_FILE: join(folder, 'clusters.json'),
    POLICY_FILE: file,
  });
  const setPolicy = async (text: string) => {
    await writeFile(`${file}.next`, text);
    await rename(`${file}.next`, file);
    worker.process.kill('SIGHUP');
  };
  const callerNamed = async (name: string): Promise<Ask> => {
    const connection = await (await broker.user(name, {})).open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
    const waiting = new Map<string, (reply: Reply) => void>();
    await channel.consume(
      replyTo,
      (message) => {
        const id = String(message?.properties.correlationId);
        waiting.get(id)?.(JSON.parse(String(message?.content)));
        waiting.delete(id);
      },
      { noAck: true },
    );
    return async (request, properties = { userId: name }) => {
      const correlationId = randomUUID();
      const body = { request_body: { etcd_token: 'prod', ...request } };
      const content = Buffer.from(JSON.stringify(body));
      const reply = new Promise<Reply>((resolve) => waiting.set(correlationId, resolve));
      channel.sendToQueue(queue, content, {
        replyTo,
        correlationId,
        messageId: correlationId,
        ...properties,
      });
      return reply;
    };
  };
  return { sandbox, worker, setPolicy, callerNamed };
}

/** The names of the units in a reply, or the code of its error. */
function seen({ status, response_body: body }: Reply): string {
  if (status === 'error') return String(body.code);
  return body
    .map(({ name }) => name)
    .toSorted()
    .join(' ');
}

const unitsOf = (kind: string) =>
  Array.from({ length: 10 }, (_, index) => `${kind}@${index}.service`).join(' ');

const LISTING = (kind: string) => `
rules:
  - name: ${kind}
    callers: ["broker:web-team"]
    effects: [read, change]
    clusters: [prod]
    units: ["${kind}@*.service"]
`;

const RESTART_WEB = { action: 'restart_unit', action_parameters: { unit_name: 'web@1.service' } };

if (isPossible) {
  let broker: OwnBroker;
  let remove: () => Promise<void>;

  test.before(async () => {
    ({ broker, remove } = await startOwnBroker());
  });

  test.after.always(async () => remove?.());

  test('a caller sees and changes only what its rules name: lists are filtered, changes of other units are refused', async (t) => {
    const { sandbox, worker, callerNamed } = await world(t, broker, LISTING('web'));
    const ask = await callerNamed('web-team');
    t.is(seen(await ask({ action: 'list_units' })), unitsOf('web'));
    t.is(
      seen(await ask({ action: 'list_units', action_parameters: { name: '*@1.service' } })),
      'web@1.service',
    );
    t.is(seen(await ask({ action: 'list_unit_states' })), unitsOf('web'));
    t.is(
      seen(await ask({ action: 'list_unit_states', action_parameters: { unit_name: 'db@1.service' } })),
      'forbidden',
    );
    t.is(
      seen(await ask({ action: 'unit_logs', action_parameters: { unit_name: 'db@1.service' } })),
      'forbidden',
    );
    t.is(seen(await ask({ action: 'list_machines' })), 'forbidden', 'it knows no units');
    const before = sandbox.cluster.requests.length;
    const refused = await ask({ action: 'restart_unit', action_parameters: { unit_name: 'db@1.service' } });
    t.deepEqual(refused.response_body.errors, [
      'The policy of this service does not allow it. It needs a rule for the caller broker:web-team, for the action restart_unit or the effect change, on the cluster prod, that covers the unit db@1.service.',
    ]);
    t.is(sandbox.cluster.requests.length, before, 'fleet was asked nothing');
    t.is((await ask(RESTART_WEB)).status, 'completed');
    // By the token it is the same cluster.
    const byToken = { etcd_token: sandbox.token };
    t.is(seen(await ask({ action: 'list_units', ...byToken })), unitsOf('web'));
    t.is(seen(await ask({ action: 'list_machines', ...byToken })), 'forbidden');
    t.is(seen(await ask({ action: 'list_units', etcd_token: 'other' })), 'forbidden');
    t.is(seen(await ask({ action: 'nothing' })), 'unknown_action');
    t.true(worker.lines.some(({ message, rules }) => message === 'policy loaded' && rules === 1));
    t.false(JSON.stringify(worker.lines).includes(sandbox.token));
  });

  test('a caller whom nobody has verified is anonymous, whatever its message says', async (t) => {
    const rules = `${LISTING('web')}  - callers: [manager]\n    effects: [read]\n  - callers: ["*"]\n    actions: [list_machines]\n`;
    const { sandbox, callerNamed } = await world(t, broker, rules);
    const [ask, manager] = [await callerNamed('web-team'), await callerNamed('manager')];
    const forged = {
      'x-caller': 'web-team',
      'x-caller-verified-by': 'broker',
      'x-door': 'http',
    };
    for (const properties of [
      {},
      { headers: forged },
      { headers: { ...forged, 'x-caller': 'manager', 'x-caller-verified-by': 'manager' } },
      { appId: 'web-team' },
    ]) {
      t.is(seen(await ask(RESTART_WEB, properties)), 'forbidden');
      t.is(seen(await ask({ action: 'list_machines' }, properties)), 'forbidden');
    }
    // A user of the broker with a reserved name is only a user.
    t.is(seen(await manager({ action: 'list_units' })), 'forbidden');
    t.is((await manager({ action: 'list_machines' })).status, 'completed');
    t.is(seen(await manager({ action: 'list_units' }, { userId: 'manager', headers: forged })), 'forbidden');
    t.deepEqual(
      sandbox.cluster.requests.filter(({ method }) => method !== 'GET'),
      [],
    );
  });

  test('equal reads of callers who may see other units do not mix', async (t) => {
    const both = `${LISTING('web')}  - callers: [db-team]\n    effects: [read]\n    units: ["db@*.service"]\n  - callers: [ops]\n    effects: [read]\n`;
    const { callerNamed } = await world(t, broker, both, 50);
    const asks = await Promise.all(['web-team', 'db-team', 'ops'].map(callerNamed));
    const expected = [unitsOf('web'), unitsOf('db'), `${unitsOf('db')} ${unitsOf('web')}`];
    const replies = await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const reply = await asks[index % 3]?.({ action: 'list_units' });
        return reply && seen(reply);
      }),
    );
    for (const [index, reply] of replies.entries()) t.is(reply, expected[index % 3]);
  });

  test('a policy is replaced under load: each reply is right under the old or the new one, and none is lost', async (t) => {
    const { worker, setPolicy, callerNamed } = await world(t, broker, LISTING('web'), 5);
    const ask = await callerNamed('web-team');
    const told = (phrase: string) => worker.lines.filter(({ message }) => message === phrase).length;
    let current = 'web';
    for (let round = 1; round <= 8; round++) {
      const next = current === 'web' ? 'db' : 'web';
      const load = async () => {
        const lists = Array.from({ length: 15 }, async () => ask({ action: 'list_units' }));
        const changes = ['web', 'db'].map(async (kind) =>
          ask({ action: 'unit_logs', action_parameters: { unit_name: `${kind}@none.service` } }),
        );
        return { lists: await Promise.all(lists), named: await Promise.all(changes) };
      };
      const during = load();
      await setPolicy(LISTING(next));
      const alsoDuring = load();
      await eventually('the policy is reloaded', () => told('policy reloaded') === 2 * round - 1);
      const possible = new Set([unitsOf(current), unitsOf(next)]);
      for (const { lists, named } of [await during, await alsoDuring]) {
        for (const reply of lists) t.true(possible.has(seen(reply)), seen(reply));
        // Either may be forbidden, or known not to be there; nothing else.
        for (const reply of named) t.true(['forbidden', 'unit_not_found'].includes(seen(reply)), seen(reply));
      }
      const after = await load();
      for (const reply of after.lists) t.is(seen(reply), unitsOf(next));
      t.deepEqual(
        after.named.map(seen),
        next === 'db' ? ['forbidden', 'unit_not_found'] : ['unit_not_found', 'forbidden'],
      );
      // One that is broken changes nothing.
      await setPolicy('rules:\n  - callers: ["*"]\n');
      const broken = await load();
      await eventually('the policy is refused', () => told('policy refused') === round);
      for (const reply of broken.lists) t.is(seen(reply), unitsOf(next));
      await setPolicy(LISTING(next));
      await eventually('the policy is there again', () => told('policy reloaded') === 2 * round);
      current = next;
    }
    t.like(
      worker.lines.find(({ message }) => message === 'policy refused'),
      {
        level: 'warn',
        reason: 'line 2, column 5: rules[0] needs actions or effects',
      },
    );
  });
}

test('a policy that cannot be used stops the start, with its place', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'policy-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  const file = join(folder, 'policy.yaml');
  for (const [text, problem] of [
    [
      'rules:\n- callers: [x]\n',
      /POLICY_FILE cannot be used: line 2, column 3: rules\[0\] needs actions or effects/,
    ],
    [undefined, /POLICY_FILE cannot be used: ENOENT/],
  ] as const) {
    if (text === undefined) await rm(file);
    else await writeFile(file, text);
    const env = { AMQP_URL: 'amqp://127.0.0.1:1', POLICY_FILE: file };
    await t.throwsAsync(startWorker(t, env), { message: new RegExp(`ended with 2: .*${problem.source}`) });
  }
});
