import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { queuesOf } from '../src/rpc/queues.js';
import { startSandbox } from '../src/sandbox/sandbox.js';
import { rabbitmq, type TestBroker } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { service } from './support/open-sandbox.js';
import { RawCaller } from './support/requests.js';
import { folder } from './support/settings.js';
import { sandboxEnv } from './support/sandbox-env.js';
import { startWorker } from './support/worker.js';

interface Details {
  ended: string;
  targets: { unit: string; status: string; error: { code: string } | null }[];
  left_stopped: string[];
}

// Workers as they are run, on a real RabbitMQ, that get real signals in the middle of a rollout.
const rabbit = rabbitmq();
const claimsUrl = process.env.ETCD_URL;
const UNITS = Array.from({ length: 4 }, (_, index) => `shop-${index + 1}.service`);
/** No test waits until this time is up. */
const LONG_GRACE = { SHUTDOWN_GRACE_SECONDS: '600' };

/** A fleet cluster and one of systemd hosts with the same four units, and what callers and workers need for them. */
const world = async (t: ExecutionContext, broker: TestBroker, kind: 'fleet' | 'systemd') => {
  const sandbox = await startSandbox({
    ssh: true,
    units: UNITS.map((name) => ({ name, options: service('/bin/shop') })),
  });
  t.teardown(async () => sandbox.stop());
  const { systemd, cluster } = sandbox;
  if (systemd === undefined) throw new Error('the machines have no SSH');
  systemd.addUnits(UNITS.map((name) => ({ name, text: '[Service]\nExecStart=/bin/shop\n' })));
  const clusters = join(await folder(t), 'clusters.json');
  const machines = systemd.machines.map(({ primaryIP }) => ({ host: primaryIP }));
  await writeFile(clusters, JSON.stringify({ lab: { kind: 'systemd', machines } }));
  const queue = `rollout_${randomUUID()}`;
  t.teardown(async () => {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  const before = new Map(UNITS.map((unit) => [unit, kind === 'fleet' ? cluster.starts(unit) : 0]));
  const count = kind === 'fleet' ? 4 : 12;
  let caller: RawCaller | undefined;
  return {
    systemd,
    count,
    /** How often each unit has been started since. */
    starts: () =>
      UNITS.flatMap((unit) => {
        if (kind === 'fleet') return [cluster.starts(unit) - (before.get(unit) ?? 0)];
        const events = systemd.history(unit).filter(({ what }) => what === 'started');
        return systemd.machines.map(({ id }) => events.filter((event) => event.machineID === id).length);
      }),
    start: async (env: Record<string, string> = {}) =>
      startWorker(t, {
        AMQP_URL: broker.url,
        QUEUE_NAME: queue,
        CLUSTERS_FILE: clusters,
        ...sandboxEnv(sandbox),
        SSH_SUDO: 'true',
        ...env,
      }),
    /** Restarts one unit after the other. @returns the reply, as its status or the code of its error, and what it says */
    rollOut: async () => {
      caller = await RawCaller.open(t, broker, queue);
      const id = caller.send(
        {
          action: 'rollout',
          etcd_token: kind === 'fleet' ? sandbox.token : 'lab',
          action_parameters: {
            operation: 'restart',
            units: 'shop-*',
            settle_seconds: 1,
            wait_seconds: 240,
            confirm_count: count,
          },
        },
        { messageId: randomUUID() },
      );
      return {
        /** Waits until this is so, while the rollout runs. */
        untilSo: async (what: string, look: () => boolean) =>
          eventually(what, () => {
            const [early] = caller?.repliesFor(id) ?? [];
            if (early !== undefined) throw new Error(`the rollout has ended: ${early.content.toString()}`);
            return look();
          }),
        reply: async () => {
          const { answer } = await (caller as RawCaller).replyFor(id);
          const { code, errors, details } = answer.response_body as {
            code?: string;
            errors?: string[];
            details?: Details;
          };
          return { outcome: code ?? answer.status, message: String(errors), details };
        },
      };
    },
    /** How many requests wait, in all queues of the service. */
    waiting: async () => {
      const open = caller ?? (await RawCaller.open(t, broker, queue));
      const counts = await Promise.all(
        (['queue', 'suspects', 'error queue'] as const).map(async (name) => open.waiting(name)),
      );
      return counts.reduce((sum, each) => sum + each, 0);
    },
  };
};

const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);

if (rabbit !== undefined) {
  for (const kind of ['fleet', 'systemd'] as const)
    test(`SIGTERM in the middle of a rollout on a ${kind} cluster: its batch ends, its caller is told what was done, and no other worker goes on`, async (t) => {
      const { start, rollOut, starts, count, waiting } = await world(t, rabbit, kind);
      const worker = await start(LONG_GRACE);
      const { reply, untilSo } = await rollOut();
      await untilSo('the first unit is restarted', () => sum(starts()) > 0);
      worker.process.kill('SIGTERM');
      t.is(await worker.ended, 0);
      t.like(worker.lines.at(-1), { message: 'shut down', clean: true });
      const { outcome, message, details } = await reply();
      t.is(outcome, 'rollout_stopped');
      t.is(details?.ended, 'shutdown');
      const statuses = details?.targets.map(({ status }) => status) ?? [];
      const done = statuses.filter((status) => status === 'done').length;
      t.true(done > 0 && done < count, statuses.join(' '));
      t.deepEqual(statuses, [...Array(done).fill('done'), ...Array(count - done).fill('not_tried')]);
      t.regex(message, new RegExp(`shutdown.*${done} done, 0 failed, ${count - done} not tried`));
      t.deepEqual(details?.left_stopped, []);
      t.is(sum(starts()), done);
      t.is(await waiting(), 0);
      await start();
      t.is(await waiting(), 0);
      t.is(sum(starts()), done);
    });

  test('at a SIGTERM with hardly any grace time the caller is told what is known, and what is left stopped', async (t) => {
    const { start, rollOut, systemd, count, waiting } = await world(t, rabbit, 'systemd');
    for (const unit of UNITS) systemd.behave(unit, 'never-starts');
    const worker = await start({ SHUTDOWN_GRACE_SECONDS: '1' });
    const { reply, untilSo } = await rollOut();
    const isStopped = () => systemd.states(UNITS[0] ?? '').some(({ active }) => active !== 'active');
    await untilSo('the first unit is restarted', isStopped);
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 0);
    const { outcome, details } = await reply();
    t.is(outcome, 'rollout_stopped');
    t.is(details?.ended, 'shutdown');
    t.deepEqual(
      details?.targets.map(({ status, error }) => error?.code ?? status),
      ['outcome_unknown', ...Array(count - 1).fill('not_tried')],
    );
    t.is(details?.left_stopped.length, 1);
    t.regex(details?.left_stopped[0] ?? '', /^shop-1\.service on /);
    t.is(await waiting(), 0);
  });

  for (const [how, signals, env] of [
    ['SIGKILL', ['SIGKILL'], {}],
    ['a second SIGTERM', ['SIGTERM', 'SIGTERM'], LONG_GRACE],
    ...(claimsUrl === undefined
      ? []
      : [['SIGKILL, with a claim store', ['SIGKILL'], { CLAIMS_ETCD_URL: claimsUrl }] as const]),
  ] as const)
    test(`after ${how} in the middle of a rollout the next worker repeats no target, and its caller is told that the outcome is unknown`, async (t) => {
      const { start, rollOut, starts, count, waiting } = await world(t, rabbit, 'systemd');
      const worker = await start(env);
      const { reply, untilSo } = await rollOut();
      await untilSo('the first unit is restarted', () => sum(starts()) > 0);
      for (const signal of signals) {
        worker.process.kill(signal);
        if (signal === 'SIGTERM')
          await eventually('it drains', () =>
            worker.lines.some(({ message }) => message === 'shutting down'),
          );
      }
      t.is(await worker.ended, signals.length === 1 ? 'SIGKILL' : 143);
      await start(env);
      const { outcome, details } = await reply();
      t.is(outcome, 'outcome_unknown');
      t.is(details?.targets, undefined);
      t.is(Math.max(...starts()), 1);
      t.true(sum(starts()) < count);
      t.is(await waiting(), 0);
    });
}
