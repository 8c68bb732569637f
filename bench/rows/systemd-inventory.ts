import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  bootMachines,
  type SystemdMachine,
  type SystemdMachines,
} from '../../test/support/systemd-machines.js';
import type { Row } from '../row.js';
import { BenchSshd, cpuSecondsOfTree } from '../sshd.js';
import { Caller, median, startService } from '../support.js';

const MACHINES = 100;
/** How many of them are real: each has its own systemd. */
const BOOTED = 12;
const UNITS = 20;
const LIMIT = 2;
/** How long systemctl takes on the simulated machines, and on the slowest of them, in seconds: machines of a real cluster use their own CPUs. */
const [USUAL_S, SLOWEST_S] = [0.2, 2];
/** The end of its address. */
const SLOWEST = 50;

const MANY_UNITS = 560;
const PID_1_LIMIT_MS = 20;

const FOLDER = '/etc/systemd/system';
const NAMES = Array.from({ length: UNITS }, (_, number) => `unit${number + 1}.service`);
const FILE = '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n';

/** The programs of the simulated machines, so far as the inventory asks them. */
const PROGRAMS = {
  systemctl: `case "$1" in
--version) echo 'systemd 252 (252.39-1~deb12u1)' ;;
*) case "$HOME" in */slow) sleep ${SLOWEST_S};; *) sleep ${USUAL_S};; esac
cat <<'END'
${NAMES.map((name) => `${name} loaded active running A unit of the operator`).join('\n')}
END
esac`,
  find: `case "$*" in
*-print0*) printf '${NAMES.map((name) => `${FOLDER}/${name}\\0`).join('')}' ;;
*) printf '${NAMES.map((name) => `f ${FILE.length}\\0${FOLDER}/${name}\\0\\0`).join('')}' ;;
esac`,
  xargs: `cat >/dev/null
printf '${NAMES.flatMap((name) =>
    FILE.trimEnd()
      .split('\n')
      .map((line) => `${FOLDER}/${name}\\0${line}\\n`),
  ).join('')}'`,
};

const START_MANY = `cd ${FOLDER}
for n in $(seq ${MANY_UNITS}); do printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >many$n.service; done
systemctl daemon-reload
seq -f 'many%g.service' ${MANY_UNITS} | xargs -n 40 systemctl start --`;
const START_FEW = `cd ${FOLDER}
for n in $(seq ${UNITS}); do printf '${FILE.replaceAll('\n', '\\n')}' >unit$n.service; done
systemctl daemon-reload
seq -f 'unit%g.service' ${UNITS} | xargs systemctl start --`;

interface Reading {
  ms: number;
  serviceMs: number;
  machinesMs: number;
}

type Kind = 'first connections' | 'kept connections';
const KINDS: readonly Kind[] = ['first connections', 'kept connections'];
type Readings = Record<Kind, Reading[]>;

export const row: Row = {
  name: 'systemd-inventory',
  title: `list_units on ${MACHINES} systemd hosts with ${UNITS} units each, ${BOOTED} of them real, and on one with ${MANY_UNITS}`,
  async measure({ brokerUrl, rounds }) {
    const queue = `bench_inventory_${randomUUID()}`;
    const folder = mkdtempSync(join(tmpdir(), 'bench-inventory-'));
    const caller = await Caller.open(brokerUrl);
    let booted: SystemdMachines | undefined;
    let sshd: BenchSshd | undefined;
    let service: ChildProcess | undefined;
    try {
      booted = await bootMachines(BOOTED + 1);
      const [many, ...few] = booted.machines;
      if (many === undefined) throw new Error('no machine has booted');
      await many.run(START_MANY);
      for (const machine of few) await machine.run(START_FEW);
      sshd = await BenchSshd.start({
        programs: PROGRAMS,
        homes: { [`127.*.*.${SLOWEST}`]: '/slow' },
        loginKey: booted.env.SSH_KEY_FILE,
      });
      const clusters = join(folder, 'clusters.json');
      const [simulated, real] = [sshd.settings, few];
      const entries = Object.fromEntries(
        [...Array(rounds + 1).keys()].flatMap((round) => [
          [`all${round}`, [...real.map(realEntry), ...addresses(2 * round).map(simulatedEntry(simulated))]],
          [
            `alone${round}`,
            addresses(2 * round + 1)
              .filter(isSlowest)
              .map(simulatedEntry(simulated)),
          ],
        ]),
      );
      const file = Object.entries({ ...entries, many: [realEntry(many)] }).map(([name, machines]) => [
        name,
        { kind: 'systemd', machines },
      ]);
      writeFileSync(clusters, JSON.stringify(Object.fromEntries(file)));
      const knownHosts = join(folder, 'known_hosts');
      writeFileSync(
        knownHosts,
        [booted.env.SSH_KNOWN_HOSTS, simulated.SSH_KNOWN_HOSTS ?? '']
          .map((path) => readFileSync(path, 'utf8'))
          .join(''),
      );
      service = startService(queue, brokerUrl, {
        ...booted.env,
        SSH_KNOWN_HOSTS: knownHosts,
        ALLOWED_HOSTS: '127.0.0.0/8,10.64.0.0/10',
        CLUSTERS_FILE: clusters,
      });
      await caller.declared(queue);
      const { pid = 0 } = service;
      const machinesCpu = sshd;
      const read = async (cluster: string, machines: number): Promise<Reading> => {
        const before = { service: cpuSecondsOfTree(pid), machines: machinesCpu.cpuSeconds() };
        const begin = performance.now();
        await listUnits(caller, queue, cluster, machines);
        const ms = performance.now() - begin;
        return {
          ms,
          serviceMs: (cpuSecondsOfTree(pid) - before.service) * 1_000,
          machinesMs: (machinesCpu.cpuSeconds() - before.machines) * 1_000,
        };
      };
      const [alone, all]: [Readings, Readings] = [noReadings(), noReadings()];
      // So that the first round is not that in which the code is loaded.
      await read('all0', MACHINES);
      for (let round = 1; round <= rounds; round++)
        for (const kind of KINDS) {
          alone[kind].push(await read(`alone${round}`, 1));
          all[kind].push(await read(`all${round}`, MACHINES));
        }
      const manyReadings: Reading[] = [];
      const pid1: number[] = [];
      await read('many', 1);
      for (let round = 1; round <= rounds; round++) {
        const before = await pid1Milliseconds(many);
        manyReadings.push(await read('many', 1));
        pid1.push((await pid1Milliseconds(many)) - before);
      }
      return {
        lines: [
          ...KINDS.flatMap((kind) => [
            { subject: `the slowest alone, ${kind}`, figures: figuresOf(alone[kind]) },
            { subject: `all ${MACHINES}, ${kind}`, figures: figuresOf(all[kind]) },
          ]),
          {
            subject: `one with ${MANY_UNITS} units, kept connection`,
            figures: { ...figuresOf(manyReadings), 'PID 1 CPU ms': median(pid1) },
          },
        ],
        goals: [
          ...KINDS.map((kind) => ({
            what: `${MACHINES} machines against the slowest of them alone, ${kind}`,
            measured: median(all[kind].map(({ ms }, index) => ms / (alone[kind][index]?.ms ?? Number.NaN))),
            limit: LIMIT,
          })),
          {
            what: `CPU of PID 1 for one list of ${MANY_UNITS} units`,
            measured: median(pid1),
            limit: PID_1_LIMIT_MS,
            unit: 'ms',
          },
        ],
      };
    } finally {
      if (service !== undefined) {
        const ended = once(service, 'exit');
        service.kill('SIGTERM');
        await ended;
      }
      await sshd?.stop();
      await booted?.stop();
      await caller.channel.deleteQueue(queue);
      await caller.channel.deleteQueue(`${queue}_error`);
      await caller.close();
      rmSync(folder, { recursive: true });
    }
  },
};

function noReadings(): Readings {
  return { 'first connections': [], 'kept connections': [] };
}

/** Addresses of the simulated machines; each set has its own. */
function addresses(set: number): string[] {
  return Array.from({ length: MACHINES - BOOTED }, (_, index) => `127.0.${set + 2}.${index + 1}`);
}

function isSlowest(address: string): boolean {
  return address.endsWith(`.${SLOWEST}`);
}

function realEntry({ address }: SystemdMachine) {
  return { host: address };
}

function simulatedEntry({ SSH_PORT, SSH_USER }: Record<string, string>) {
  return (host: string) => ({ host, port: Number(SSH_PORT), user: SSH_USER });
}

/** @throws Error when something is missing in the list */
async function listUnits(caller: Caller, queue: string, cluster: string, machines: number): Promise<void> {
  const reply = await caller.request(queue, { etcd_token: cluster, action: 'list_units' });
  const { status, response_body: units, details } = JSON.parse(reply.toString());
  const expected = cluster === 'many' ? MANY_UNITS : UNITS;
  if (status !== 'completed' || units.length !== expected || details !== undefined)
    throw new Error(`not all of ${machines} machines were read: ${reply.toString().slice(0, 1_000)}`);
}

/** What the machine's PID 1 has used of the CPU so far (schedstat, proc(5)), more precisely than in ticks. */
async function pid1Milliseconds(machine: SystemdMachine): Promise<number> {
  return Number((await machine.run('cut -d" " -f1 /proc/1/schedstat')).trim()) / 1e6;
}

function figuresOf(readings: readonly Reading[]): Record<string, number> {
  const of = (pick: (reading: Reading) => number) => median(readings.map(pick));
  const [service, machines] = [of(({ serviceMs }) => serviceMs), of(({ machinesMs }) => machinesMs)];
  return {
    ms: of(({ ms }) => ms),
    'service CPU ms': service,
    // Of the simulated ones.
    'machines CPU ms': machines,
    'CPU of both by cores ms': (service + machines) / availableParallelism(),
  };
}
