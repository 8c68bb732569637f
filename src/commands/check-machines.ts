import { ActionError } from '../api/action-error.js';
import { mapLimited } from '../api/map-limited.js';
import type { RemoteShell } from '../api/remote-shell.js';
import type { Clock } from '../lib/clock.js';
import { fieldsOf } from '../lib/fields-of.js';
import { counted, type Finding, listed, ok, warned } from './finding.js';
import { loginProblem } from './login-problem.js';
import { ABILITIES, type Ability, problemOfRun } from './machine-abilities.js';
import { type LoginSettings, type MachineProblem, ownLogin } from './machine-problem.js';

/** The number of machines that are checked at the same time. */
const CONCURRENCY = 16;
const MAX_OUTPUT_BYTES = 64 * 1024;

export interface MachineCheckOptions {
  shell: RemoteShell;
  settings: LoginSettings;
  /** The port and the user of a machine, where they differ from these. */
  loginOf?: (address: string) => Parameters<typeof ownLogin>[1];
  clock: Pick<Clock, 'wallTime'>;
  /** The time limit for each command, in milliseconds. */
  limitMs: number;
}

/** Logs in to machines and runs the commands that actions need. Nothing is changed there. */
export async function checkMachines(
  addresses: readonly string[],
  options: MachineCheckOptions,
): Promise<Finding> {
  const check = async (address: string) => ({ address, problems: await problemsOf(address, options) });
  return findingOf(await mapLimited(addresses, CONCURRENCY, check));
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
      ? `the actions can work on ${total}: ${listed(well)}`
      : `${well.length} of ${total} ${well.length === 1 ? 'has' : 'have'} no problem${well.length === 0 ? '' : `: ${listed(well)}`}`;
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

/** The problems of one machine. Each command has its own time limit, and one that hangs costs only its own result. */
async function problemsOf(address: string, given: MachineCheckOptions): Promise<readonly MachineProblem[]> {
  const options = { ...given, settings: ownLogin(given.settings, given.loginOf?.(address)) };
  const check = async (ability: Ability) => problemOf(address, ability, options);
  const checkOnItsOwn = async (ability: Ability) =>
    check(ability).catch((error: unknown) => loginProblem(error, options.settings));
  const [first, second, ...others] = ABILITIES;
  let found: (MachineProblem | undefined)[];
  try {
    found = [await check(first)];
  } catch (error) {
    return [loginProblem(error, options.settings)];
  }
  found.push(await checkOnItsOwn(second));
  found.push(...(await Promise.all(others.map(checkOnItsOwn))));
  // A connection that is lost is the problem of each command.
  const byReason = new Map(found.flatMap((each) => (each === undefined ? [] : [[each.reason, each]])));
  return [...byReason.values()];
}

/** Rejects when the machine has not run the command. */
async function problemOf(
  address: string,
  ability: Ability,
  { shell, settings, clock, limitMs }: MachineCheckOptions,
): Promise<MachineProblem | undefined> {
  const { argv, hung } = ability;
  const named = (found: MachineProblem | undefined) =>
    found && { ...found, reason: `${address}: ${found.reason}` };
  const { signal } = new AbortController();
  const askedAt = clock.wallTime();
  try {
    const options = { signal, timeoutMs: limitMs, maxOutputBytes: MAX_OUTPUT_BYTES, anyExitStatus: true };
    const { stdout, stderr, truncated, failure } = await shell.run(address, argv, options);
    const answeredAt = clock.wallTime();
    // It was stopped, so it has no exit status: an action could not read its output either.
    if (truncated) return named(tooMuch(argv, hung));
    const ran = { status: exitStatusOf(failure), stdout, stderr, askedAt, answeredAt };
    return named(problemOfRun(ability, ran, settings));
  } catch (error) {
    if (!isHung(error)) throw error;
    return named(hung(`\`${argv.join(' ')}\` did not end within ${limitMs / 1_000} s`));
  }
}

function tooMuch(argv: Ability['argv'], hung: Ability['hung']): MachineProblem {
  const command = `\`${argv.join(' ')}\``;
  const problem = hung(`${command} wrote more than ${MAX_OUTPUT_BYTES / 1024} KiB`);
  return { ...problem, remedy: `run ${command} on HOST: it should write a few lines` };
}

function isHung(error: unknown): boolean {
  return error instanceof ActionError && error.code === 'timeout' && fieldsOf(error.details).begun === true;
}

function exitStatusOf(failure: ActionError | undefined): number | undefined {
  const { exitStatus } = fieldsOf(failure?.details);
  return failure === undefined ? 0 : typeof exitStatus === 'number' ? exitStatus : undefined;
}
