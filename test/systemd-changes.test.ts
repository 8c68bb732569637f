import test, { type ExecutionContext } from 'ava';
import { eventually } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { systemdCluster } from './support/systemd-cluster.js';
import { machinePool, machinesCanRun, type SystemdMachine } from './support/systemd-machines.js';

// Changes of units of plain systemd hosts as callers ask for them: by a message in RabbitMQ, of any worker.
const WHAT = 'changes on clusters of plain systemd hosts';
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped(`${WHAT} over RabbitMQ`, 'RABBITMQ_URL');
const claimsUrl = process.env.ETCD_URL;

if (rabbitmqUrl !== undefined && (await machinesCanRun(WHAT))) {
  const { booted, takeMachine } = machinePool(test, 4);

  const world = async (t: ExecutionContext, count: number) => {
    const machines = Array.from({ length: count }, takeMachine);
    return { machines, ...(await systemdCluster(t, rabbitmqUrl, booted(), machines)) };
  };

  /** A service that adds a line to a file at each start, which takes a while. */
  const countedUnit = (name: string, seconds: number) =>
    `cat >/etc/systemd/system/${name} <<'END'
[Service]
ExecStartPre=/bin/sh -c 'echo start >>/var/starts'
ExecStartPre=/bin/sleep ${seconds}
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload`;
  const startsOn = async (machine: SystemdMachine) =>
    Number(await machine.run('cat /var/starts 2>/dev/null | wc -l'));

  for (const [stores, env] of [
    ['no claim store', {}],
    ...(claimsUrl === undefined ? [] : [['a claim store', { CLAIMS_ETCD_URL: claimsUrl }] as const]),
  ] as const)
    test(`a restart whose worker is killed in the middle is made once, and answered by the next worker, with ${stores}`, async (t) => {
      const { machines, lab, client, start } = await world(t, 2);
      const [machine, other] = machines as [SystemdMachine, SystemdMachine];
      for (const each of machines) await each.run(countedUnit('web.service', 3));
      const first = await start(env);
      const outcome = client.call('restart_unit', {
        ...lab,
        parameters: { unit_name: 'web.service', wait_seconds: 120, format: 'structured' },
      });
      await eventually('the unit starts', async () => (await startsOn(machine)) === 1);
      first.process.kill('SIGKILL');
      await first.ended;
      await start(env);
      const answer = (await outcome) as { changes: Record<string, unknown>[]; text: string };
      t.deepEqual(
        answer.changes.map(({ did, error }) => [did, error]),
        [
          ['started', null],
          ['started', null],
        ],
      );
      t.regex(answer.text, /^web\.service was started on machine/);
      t.deepEqual([await startsOn(machine), await startsOn(other)], [1, 1]);
    });
}
