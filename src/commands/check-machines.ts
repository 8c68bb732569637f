import type { ActionError } from '../api/action-error.js';
import type { RemoteShell } from '../api/remote-shell.js';
import { withTimeLimit } from '../api/time-limit.js';
import type { Clock } from '../lib/clock.js';
import { fieldsOf } from '../lib/fields-of.js';
import { clockDifference } from './clock-offset.js';
import { counted, type Finding, ok, warned } from './finding.js';
import { loginProblem } from './login-problem.js';
import { ABILITIES, type Ran } from './machine-abilities.js';
import { type LoginSettings, type MachineProblem, warning } from './machine-problem.js';

/** The number of machines that are checked at the same time. */
const CONCURRENCY = 16;
const MAX_OUTPUT_BYTES = 64 * 1024;

export interface MachineCheckOptions {
  shell: RemoteShell;
  settings: LoginSettings;
  clock: Clock;
  /** The time limit for each machine, in milliseconds. */
  limitMs: number;
}

/** Logs in to machines and runs the commands that actions need. Nothing is changed there. */
export async function checkMachines(
  addresses: readonly string[],
  options: MachineCheckOptions,
): Promise<Finding> {
  const problems = new Map<string, readonly MachineProblem[]>();
  const remaining = addresses.values();
  const check = async () => {
    for (const address of remaining) problems.set(address, await problemsOf(address, options));
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, check));
  return findingOf(addresses.map((address) => ({ address, problems: problems.get(address) ?? [] })));
}

interface CheckedMachine {
  address: string;
  problems: readonly MachineProblem[];
}

function findingOf(machines: readonly CheckedMachine[]): Finding {
  const well = machines.filter(({ problems }) => problems.length === 0).map(({ address }) => address);
  const total = counted(machines.length, 'machine');
  const summary =
    well.length === machines.length
      ? `the actions can work on ${total}: ${well.join(', ')}`
      : `${well.length} of ${total} ${well.length === 1 ? 'has' : 'have'} no problem${well.length === 0 ? '' : `: ${well.join(', ')}`}`;
  const problems = machines.flatMap((machine) =>
    machine.problems.map((problem) => ({ ...problem, address: machine.address })),
  );
  const remedies = [...new Set(problems.map(({ remedy }) => remedy))];
  const lines = remedies.flatMap((remedy) => {
    const group = problems.filter((problem) => problem.remedy === remedy);
    const [host = 'HOST', ...others] = new Set(group.map(({ address }) => address));
    return [
      ...group.map(({ reason }) => reason),
      `-> ${remedy.replaceAll(/\bHOST\b/g, others.length > 0 ? 'HOST' : host)}`,
    ];
  });
  if (lines.length === 0) return ok(summary);
  const hasFailed = problems.some(({ severity }) => severity === 'failure');
  return hasFailed ? { result: 'FAILED', lines: [summary, ...lines] } : warned([summary, ...lines]);
}

async function problemsOf(
  address: string,
  { shell, settings, clock, limitMs }: MachineCheckOptions,
): Promise<readonly MachineProblem[]> {
  const message = `${address}: the commands took longer than ${limitMs / 1_000} s`;
  try {
    return await withTimeLimit({ ms: limitMs, message, clock }, async (signal) => {
      const run = async (argv: readonly [string, ...string[]]): Promise<Ran> => {
        const options = { signal, timeoutMs: limitMs, maxOutputBytes: MAX_OUTPUT_BYTES, anyExitStatus: true };
        const { stdout, stderr, failure } = await shell.run(address, argv, options);
        return { status: exitStatusOf(failure), stdout, stderr };
      };
      // Alone, because it opens the connection: the clock and the other commands then take no time for that.
      const [first, ...others] = ABILITIES;
      const found = [first.problem(await run(first.argv), settings), await clockProblem(run, clock)];
      const more = others.map(async ({ argv, problem }) => problem(await run(argv), settings));
      const all = [...found, ...(await Promise.all(more))].filter((problem) => problem !== undefined);
      return all.map((problem) => ({ ...problem, reason: `${address}: ${problem.reason}` }));
    });
  } catch (error) {
    return [loginProblem(error, settings)];
  }
}

function exitStatusOf(failure: ActionError | undefined): number | undefined {
  const { exitStatus } = fieldsOf(failure?.details);
  return failure === undefined ? 0 : typeof exitStatus === 'number' ? exitStatus : undefined;
}

async function clockProblem(
  run: (argv: readonly [string, ...string[]]) => Promise<Ran>,
  clock: Pick<Clock, 'wallTime'>,
): Promise<MachineProblem | undefined> {
  const askedAt = clock.wallTime();
  const { stdout } = await run(['date', '+%s.%N']);
  const answeredAt = clock.wallTime();
  // busybox prints `%N` as it is.
  const [, whole, fraction] = /^(\d+)(?:\.(\d{3})\d*)?/.exec(stdout) ?? [];
  if (whole === undefined)
    return warning('the time of its clock is not known', 'check that `date +%s.%N` works there');
  const time = Number(whole) * 1_000 + Number(fraction ?? 0);
  const precisionMs = fraction === undefined ? 1_000 : 1;
  const difference = clockDifference({ time, precisionMs, askedAt, answeredAt });
  return difference === undefined
    ? undefined
    : warning(
        `its clock is ${difference}`,
        'synchronize both clocks by NTP (timedatectl status); first find out which one is wrong',
      );
}
