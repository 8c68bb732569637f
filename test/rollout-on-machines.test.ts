import test from 'ava';
import { noteSkipped } from './support/note-skipped.js';
import { systemdCluster } from './support/systemd-cluster.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from './support/systemd-machines.js';

const WHAT = 'rollouts on plain systemd hosts';
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped(`${WHAT} over RabbitMQ`, 'RABBITMQ_URL');

interface Answer {
  ended: string;
  plan_hash: string;
  targets: { unit: string; machine_id: string; batch: number; status: string }[];
  left_stopped: string[];
}

const idOf = ({ machine }: SystemdMachine) => machine.id;

const UNITS = ['shop-a', 'shop-b', 'shop-c', 'shop-d'];

/** Four services that add a line to a file at each start, and fail where an operator has made a file that says so. */
const SHOP = `for unit in ${UNITS.join(' ')}; do
cat >/etc/systemd/system/$unit.service <<END
[Service]
ExecStartPre=/bin/sh -c 'echo %N >>/var/starts; [ ! -e /var/broken-%N ]'
ExecStart=/bin/sleep infinity
END
done
systemctl daemon-reload
systemctl start ${UNITS.join(' ')}
rm /var/starts`;

if (rabbitmqUrl !== undefined && (await machinesCanRun(WHAT))) {
  let booted: SystemdMachines;
  test.before(async () => {
    booted = await bootMachines(3);
  });
  test.after.always(async () => booted?.stop());

  test('four units on three machines are restarted in batches of three, as planned, until too many fail', async (t) => {
    const machines = booted.machines.toSorted((one, other) => (idOf(one) < idOf(other) ? -1 : 1));
    const [, second] = machines;
    const secondID = second?.machine.id;
    const { lab, client, start } = await systemdCluster(t, rabbitmqUrl, booted, machines);
    for (const machine of machines) await machine.run(SHOP);
    await start();
    const rollout = async (more: object) =>
      client.call('rollout', {
        ...lab,
        parameters: {
          operation: 'restart',
          units: 'shop-*',
          batch: '3',
          settle_seconds: 1,
          max_failures: 1,
          confirm_count: 12,
          ...more,
        },
      }) as Promise<Answer>;
    const started = async () =>
      Promise.all(
        machines.map(async (machine) => {
          const lines = await machine.run('cat /var/starts 2>/dev/null || true');
          return lines.split('\n').filter((line) => line !== '');
        }),
      );

    const plan = await rollout({ dry_run: true });
    t.deepEqual(
      plan.targets.map(({ unit, machine_id, batch }) => [unit, machine_id, batch]),
      machines.flatMap((machine, place) =>
        UNITS.map((unit, index) => [
          `${unit}.service`,
          idOf(machine),
          Math.floor((place * 4 + index) / 3) + 1,
        ]),
      ),
    );
    t.deepEqual(await started(), [[], [], []], 'a dry run starts nothing');

    await second?.run('touch /var/broken-shop-a /var/broken-shop-d');
    const error = await t.throwsAsync<Error & { code: string; details: Answer }>(async () =>
      rollout({ plan_hash: plan.plan_hash }),
    );
    t.is(error?.code, 'rollout_stopped');
    const { ended, targets, left_stopped: down } = error?.details ?? plan;
    t.is(ended, 'max_failures');
    t.deepEqual(
      targets.map(({ unit, machine_id, batch }) => [unit, machine_id, batch]),
      plan.targets.map(({ unit, machine_id, batch }) => [unit, machine_id, batch]),
    );
    t.deepEqual(
      targets.map(({ status }) => status),
      'done done done done failed done done failed done not_tried not_tried not_tried'.split(' '),
    );
    t.deepEqual(down, [`shop-a.service on ${secondID}`, `shop-d.service on ${secondID}`]);
    const [first, middle, last] = await started();
    t.deepEqual(first?.toSorted(), UNITS);
    t.deepEqual([...new Set(middle)].toSorted(), UNITS);
    t.is(middle?.length, 6, 'what failed was started once more');
    t.deepEqual(last, ['shop-a']);
  });

  test('a rollout of what has changed since the dry run is refused, and one of one file goes to its end', async (t) => {
    const { machines } = booted;
    const { lab, client, start } = await systemdCluster(t, rabbitmqUrl, booted, machines);
    await start();
    const put = async (more: object) =>
      client.call('rollout', {
        ...lab,
        parameters: {
          operation: 'put',
          units: 'clock.service',
          machine_ids: machines.map(idOf),
          text: '[Service]\nExecStart=/bin/sleep infinity\n',
          batch: '50%',
          settle_seconds: 0,
          ...more,
        },
      }) as Promise<Answer>;
    const { plan_hash } = await put({ dry_run: true });
    const { ended, targets } = await put({ plan_hash });
    t.is(ended, 'completed');
    t.deepEqual(
      targets.map(({ batch, status }) => [batch, status]),
      [
        [1, 'done'],
        [1, 'done'],
        [2, 'done'],
      ],
    );
    const stale = await t.throwsAsync<Error & { code: string }>(async () => put({ plan_hash }));
    t.is(stale?.code, 'stale_plan');
    for (const machine of machines)
      t.regex(await machine.run('cat /etc/systemd/system/clock.service'), /sleep infinity/);
  });
}
