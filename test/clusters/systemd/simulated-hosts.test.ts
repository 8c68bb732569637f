import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { fieldsOf } from '../../../src/lib/fields-of.js';
import { startSandbox } from '../../../src/sandbox/sandbox.js';
import { systemClock } from '../../../src/lib/clock.js';
import { notAborted } from '../../ssh/shell-for.js';
import { actionRequest } from '../../support/action-request.js';
import { HUNG_MS } from '../../support/eventually.js';
import { clusterOf } from './machines-as-clusters.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../../support/systemd-machines.js';
import { CASE_PROPERTIES, SYSTEMCTL_CASES, type SystemctlCase } from './systemctl-cases.js';

// The sandbox's hosts and real ones must behave alike: what holds of one is tested on the other.

// Tests must be declared in one turn.
const hasMachines = await machinesCanRun('systemctl of a real host');

/** A machine of either kind. */
interface Target extends Awaited<ReturnType<typeof clusterOf>> {
  host: string;
  /** Writes files, and has systemd read them. */
  install(files: SystemctlCase['files']): Promise<void>;
}

async function simulated(t: Teardown): Promise<Target> {
  const sandbox = await startSandbox({ ssh: true });
  t.teardown(async () => sandbox.stop());
  const { ssh, systemd } = sandbox;
  if (ssh === undefined || systemd === undefined) throw new Error('the sandbox has no hosts');
  const env = {
    SSH_USER: ssh.user,
    SSH_PORT: String(ssh.port),
    SSH_KEY_FILE: ssh.privateKeyFile,
    SSH_KNOWN_HOSTS: ssh.knownHostsFile,
  };
  return {
    ...(await clusterOf(t, { env }, [{ address: '127.0.0.11' }], { sudo: true })),
    host: '127.0.0.11',
    install: async (files) => {
      for (const [path, text = ''] of Object.entries(files)) {
        const name = path.slice(path.lastIndexOf('/') + 1);
        systemd.addUnits([{ name, text, path, started: false, machines: ['127.0.0.11'] }]);
      }
    },
  };
}

async function real(t: Teardown, { machines: [machine], env }: SystemdMachines): Promise<typeof realHost> {
  if (machine === undefined) throw new Error('boot a machine');
  return {
    ...(await clusterOf(t, { env }, [machine], { sudo: true })),
    run: async (script) => machine.run(script),
    host: machine.address,
    install: async (files) => {
      const writes = Object.entries(files).map(([path, text]) =>
        text === undefined ? `ln -s /dev/null '${path}'` : `cat >'${path}' <<'END'\n${text}END`,
      );
      await machine.run(`${writes.join('\n')}\nsystemctl daemon-reload`);
    },
  };
}

const ALL_FILES: SystemctlCase['files'] = Object.assign({}, ...SYSTEMCTL_CASES.map(({ files }) => files));

/** Tests every case on the same machine, most at the same time. */
function testCases(what: string, target: () => Target): void {
  for (const each of SYSTEMCTL_CASES) {
    const declare = each.isAlone === true ? test.serial : test;
    declare(`${what}: ${each.title}`, async (t) => caseHolds(t, target(), each));
  }
}

async function caseHolds(
  t: ExecutionContext,
  { host, shell }: Target,
  { title, unit, steps, becomes, also = {} }: SystemctlCase,
): Promise<void> {
  const systemctl = async (...args: string[]) => {
    const options = { ...notAborted(), anyExitStatus: true, timeoutMs: 60_000, maxOutputBytes: 100_000 };
    const { stdout, stderr, failure } = await shell.run(host, ['systemctl', ...args], options);
    const status = failure === undefined ? 0 : Number(fieldsOf(failure.details).exitStatus);
    return { stdout, stderr: stderr.trimEnd(), status };
  };
  for (const [verb, status, says] of steps) {
    const said = await systemctl(...verb.split(' '), '--', unit);
    t.is(said.status, status, `${title}: ${verb}: ${said.stderr}`);
    if (says !== undefined) t.regex(said.stderr, says, `${title}: ${verb}`);
  }
  const expected = [...becomes, ...Object.values(also)];
  let seen: string[] = [];
  const wanted = [...CASE_PROPERTIES, ...Object.keys(also)];
  const look = async () => {
    const { stdout } = await systemctl('show', `--property=${wanted.join(',')}`, '--', unit);
    const values = new Map(
      stdout.split('\n').map((line) => [line.split('=', 1)[0], line.slice(line.indexOf('=') + 1)]),
    );
    seen = wanted.map((name) => values.get(name) ?? '');
    return isDeepStrictEqual(seen, expected);
  };
  // What a unit becomes shows itself a moment after the command.
  for (let looks = 0; looks < 100 && !(await look()); looks++)
    await new Promise((done) => setTimeout(done, 50));
  t.deepEqual(seen, expected, title);
}

type Teardown = Pick<ExecutionContext, 'teardown'>;

const teardowns: (() => unknown)[] = [];
const context: Teardown = { teardown: (work) => void teardowns.unshift(work) };
let simulatedHost: Target;
let realHost: Target & Pick<SystemdMachine, 'run'>;

test.before(async () => {
  simulatedHost = await simulated(context);
  await simulatedHost.install(ALL_FILES);
  if (!hasMachines) return;
  const booted = await bootMachines(1);
  teardowns.push(booted.stop);
  realHost = await real(context, booted);
  await realHost.install(ALL_FILES);
});
test.after.always(async () => {
  for (const work of teardowns) await work();
});

if (hasMachines) {
  test.serial('a real host: what systemd forgets before it begins is begun again', async (t) => {
    const { control, cluster } = realHost;
    await realHost.install({
      '/etc/systemd/system/sc-storm.service': '[Service]\nExecStart=/bin/sleep infinity\n',
    });
    const storm = realHost.run(
      'for n in 1 2 3 4; do (for m in 1 2 3 4 5 6 7 8; do systemctl daemon-reload || true; done) & done; wait',
    );
    const request = {
      ...actionRequest({ cluster }),
      deadline: systemClock.now() + HUNG_MS,
      key: randomUUID(),
    };
    const changes = await Promise.all(
      Array.from({ length: 5 }, async (_, index) =>
        control.change(
          { ...request, key: randomUUID() },
          { unit: 'sc-storm.service', verb: index === 0 ? 'start' : 'reset-failed', settleMs: 0 },
        ),
      ),
    );
    await storm;
    t.deepEqual(
      changes.map(([change]) => change?.did),
      ['started', 'nothing', 'nothing', 'nothing', 'nothing'],
    );
  });
}

testCases('a simulated host', () => simulatedHost);
if (hasMachines) testCases('a real host', () => realHost);
