import {
  ActionError,
  type Clock,
  type ClockOffset,
  clockOffset,
  type RemoteOutput,
  type RemoteShell,
  runTogether,
} from '../../src/plugin.js';

const DOCKER_MS = 10_000;
/** Of each program that runs with others: so that what the others have said is here before the time for the node has passed. */
const TOGETHER_MS = 6_000;
/** The output limit of each program that runs with others. */
export const TOGETHER_BYTES = 64 * 1024;

export interface RunContext {
  shell: RemoteShell;
  clock: Clock;
  /** Aborted when the time for the node has passed. */
  signal: AbortSignal;
  /** The output limit of docker. */
  maxDockerBytes: number;
}

/** What the programs that run together have printed. */
export interface TogetherOutputs {
  os: RemoteOutput;
  machine: RemoteOutput;
  failedUnits: RemoteOutput;
  updateEngine: RemoteOutput;
  rpmOstree: RemoteOutput;
  podman: RemoteOutput;
  disk: RemoteOutput;
  /** Undefined: it is not known. */
  offset: ClockOffset | undefined;
}

/** What the programs on a node have printed, or why they were not run. */
export interface NodeOutputs {
  together: TogetherOutputs | ActionError;
  docker: RemoteOutput | ActionError;
}

/**
 * Runs the programs on a node, in two calls at the same time. docker has one of its own, because it does hang at times, and then makes
 * other requests wait: of a program two calls run on a machine at a time.
 */
export async function runOnNode(host: string, context: RunContext): Promise<NodeOutputs> {
  const [together, docker] = await Promise.all([
    orFailure(runAll(host, context)),
    orFailure(runDocker(host, context)),
  ]);
  return { together, docker };
}

async function orFailure<T>(running: Promise<T>): Promise<T | ActionError> {
  try {
    return await running;
  } catch (error) {
    if (error instanceof ActionError) return error;
    throw error;
  }
}

async function runAll(host: string, { shell, clock, signal }: RunContext): Promise<TogetherOutputs> {
  const options = { signal, timeoutMs: TOGETHER_MS, maxOutputBytes: TOGETHER_BYTES };
  const askedAt = clock.wallTime();
  const { outputs, began, ended } = await runTogether(
    shell,
    host,
    [
      ['cat', '/etc/os-release'],
      ['cat', '/proc/loadavg', '/proc/meminfo', '/proc/uptime'],
      ['systemctl', 'list-units', '--state=failed', '--full', '--plain', '--no-legend', '--no-pager'],
      // What may hang is last.
      ['update_engine_client', '-status'],
      ['rpm-ostree', 'status', '--json'],
      ['podman', 'version'],
      ['df', '-P', '-m', '/var/lib/docker'],
    ],
    options,
  );
  const offset = clockOffset({ began, ended, askedAt, answeredAt: clock.wallTime() });
  const [etcOs, machine, failedUnits, updateEngine, rpmOstree, podman, disk] = outputs;
  const isThere = etcOs.failure === undefined || etcOs.stdout !== '';
  const os = isThere ? etcOs : ((await otherOsRelease(host, shell, options)) ?? etcOs);
  return { os, machine, failedUnits, updateEngine, rpmOstree, podman, disk, offset };
}

/** For systems that have no link to it in /etc (os-release(5)). @returns undefined when it is not there either */
async function otherOsRelease(
  host: string,
  shell: RemoteShell,
  options: { signal: AbortSignal; timeoutMs: number; maxOutputBytes: number },
): Promise<RemoteOutput | undefined> {
  const output = await orFailure(shell.run(host, ['cat', '/usr/lib/os-release'], options));
  return output instanceof ActionError ? undefined : output;
}

async function runDocker(
  host: string,
  { shell, signal, maxDockerBytes: maxOutputBytes }: RunContext,
): Promise<RemoteOutput> {
  return shell.run(host, ['docker', 'version'], {
    signal,
    timeoutMs: DOCKER_MS,
    maxOutputBytes,
    anyExitStatus: true,
  });
}
