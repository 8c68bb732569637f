import {
  ActionError,
  type Clock,
  type RemoteOutput,
  type RemoteShell,
  withTimeLimit,
} from '../../src/plugin.js';
import { isNoFolder, isNotInstalled, isWithoutOstree, isWithoutSystemd } from './absent.js';
import { readDisk, readDocker, readMachine, readOs } from './facts.js';
import { type NodeOutputs, runOnNode, type TogetherOutputs } from './node-programs.js';
import type { Node } from './nodes.js';
import { PartReadings } from './part-readings.js';
import { type NodeInfo, NOTHING_KNOWN, type OsImage, type Podman } from './result.js';
import { readFailedUnits, readPodman, readRpmOstree, readUpdateEngine } from './system-facts.js';

/** The time limit for one node: a caller times out after 30 s, and one slow node must not cause that. */
const NODE_MS = 12_000;

export interface ReadContext {
  shell: RemoteShell;
  clock: Clock;
  signal: AbortSignal;
  /** The limit for each text in the result, in bytes. */
  maxTextBytes: number;
  /** The time limit for all nodes. */
  timeMs: number;
  /** The clock's time at which that limit ends. */
  endsAt: number;
}

/** Reads a node within its time limit. A failure is reported in its `errors` and never fails other nodes. */
export async function infoOf({ name, host }: Node, context: ReadContext): Promise<NodeInfo> {
  if (typeof host !== 'string') return unread(host.problem);
  const { shell, clock, signal, timeMs, endsAt, maxTextBytes } = context;
  const ms = Math.min(NODE_MS, endsAt - clock.now());
  if (ms <= 0)
    return unread(
      `timeout: it was not read within ${Math.ceil(timeMs / 1_000)} s, because of too many slow nodes; request fewer nodes`,
    );
  // Not 'did not respond': its commands may have waited for those of other requests.
  const message = `${name} was not read within ${Math.ceil(ms / 1_000)} s`;
  const outputs = await withTimeLimit({ ms, message, clock, signal }, async (limited) =>
    runOnNode(host, { shell, clock, signal: limited, maxDockerBytes: maxTextBytes }),
  );
  signal.throwIfAborted();
  return infoFrom(outputs, maxTextBytes);
}

/** The information of a node that was not read. */
function unread(reason: string): NodeInfo {
  return { ...NOTHING_KNOWN, errors: [reason] };
}

function infoFrom({ together, docker: ofDocker }: NodeOutputs, maxTextBytes: number): NodeInfo {
  const readings = new PartReadings();
  const readDockerPart = () =>
    isNotInstalled(ofDocker)
      ? null
      : readings.read(
          { what: 'docker', program: 'docker', parse: readDocker, maxBytes: maxTextBytes },
          ofDocker,
        );
  if (together instanceof ActionError) {
    readings.failed('all but docker', together);
    const docker = readDockerPart();
    return {
      ...NOTHING_KNOWN,
      docker_version: docker?.text ?? null,
      docker: docker?.facts ?? null,
      errors: readings.errors(),
    };
  }
  const { offset, ...of } = together;
  const hasNoDisk = isNotInstalled(ofDocker) && isNoFolder(of.disk);
  const disk = hasNoDisk ? null : readings.read({ what: 'disk', program: 'df', parse: readDisk }, of.disk);
  const os = readings.read({ what: 'os', program: 'cat', parse: readOs, maxBytes: maxTextBytes }, of.os);
  const docker = readDockerPart();
  const machine = readings.read({ what: 'machine', program: 'cat', parse: readMachine }, of.machine);
  const podman = podmanOf(of.podman, readings);
  const image = imageOf(of, os?.facts.version ?? null, readings);
  const units =
    isNotInstalled(of.failedUnits) || isWithoutSystemd(of.failedUnits)
      ? null
      : readings.read({ what: 'failed_units', program: 'systemctl', parse: readFailedUnits }, of.failedUnits);
  return {
    docker_disk_space_percent: disk?.facts.used_percent ?? null,
    coreos_version: os?.text ?? null,
    docker_version: docker?.text ?? null,
    disk: disk?.facts ?? null,
    os: os?.facts ?? null,
    docker: docker?.facts ?? null,
    load: machine?.facts.load ?? null,
    memory: machine?.facts.memory ?? null,
    uptime_seconds: machine?.facts.uptime_seconds ?? null,
    podman,
    os_image: image,
    failed_units: units?.facts ?? null,
    clock: offset ?? null,
    errors: readings.errors(),
  };
}

/** Podman that is there and does not answer is told from one that is not there. */
function podmanOf(output: RemoteOutput, readings: PartReadings): Podman | null {
  if (isNotInstalled(output)) return null;
  const read = readings.read({ what: 'podman', program: 'podman', parse: readPodman }, output);
  return { version: read?.facts ?? null, answers: read !== null && output.failure === undefined };
}

function imageOf(
  { rpmOstree, updateEngine }: Pick<TogetherOutputs, 'rpmOstree' | 'updateEngine'>,
  osVersion: string | null,
  readings: PartReadings,
): OsImage | null {
  if (!isNotInstalled(rpmOstree) && !isWithoutOstree(rpmOstree)) {
    const part = { what: 'os_image', program: 'rpm-ostree', parse: readRpmOstree };
    return readings.read(part, rpmOstree)?.facts ?? null;
  }
  if (isNotInstalled(updateEngine)) return null;
  const parse = (text: string) => readUpdateEngine(text, osVersion);
  const part = { what: 'os_image', program: 'update_engine_client', parse };
  return readings.read(part, updateEngine)?.facts ?? null;
}
