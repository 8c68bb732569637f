import { ActionError } from '../../src/plugin.js';
import { readAssignments } from './os-release.js';
import type { Disk, Docker, NodeInfo, Os } from './result.js';

/**
 * What was read of a command's output. A part that could not be read is null, and `problem` says so.
 */
export interface Reading<Facts> {
  facts: Facts;
  problem?: string;
}

/**
 * Reads the output of `df -P -m`: a header, then one line with the columns that POSIX defines. A column that df does not know
 * is `-`: the percentage of a file system of size 0, for example.
 */
export function readDisk(text: string): Reading<Disk> {
  const [, ...columns] = /^.*\s(\d+|-)\s+(\d+|-)\s+(-?\d+|-)\s+(\d+%|-)\s/m.exec(text) ?? [];
  if (columns.length === 0) throw unreadable('df');
  const [size, used, available, percent] = columns.map(numberOrNull);
  const facts = {
    size_mb: size ?? null,
    used_mb: used ?? null,
    available_mb: available ?? null,
    used_percent: percent ?? null,
  };
  return Object.values(facts).includes(null) ? { facts, problem: "df shows '-' for some values" } : { facts };
}

function numberOrNull(column: string): number | null {
  return column === '-' ? null : Number.parseInt(column, 10);
}

/** Reads os-release(5), which says what is assumed when there is no ID. */
export function readOs(text: string): Reading<Os> {
  const variables = readAssignments(text);
  const hasOther = text.split('\n').some((line) => !/^(?:#|$)/.test(line.trim()));
  if (variables.size === 0 && hasOther) throw unreadable('os-release');
  const value = (name: string) => variables.get(name) || null;
  return {
    facts: {
      id: value('ID') ?? 'linux',
      version: value('VERSION_ID') ?? value('VERSION'),
      name: value('PRETTY_NAME'),
    },
  };
}

/** Reads `docker version`: a section for the client and one for the server, each with its version. */
export function readDocker(text: string): Reading<Docker> {
  const [client = '', server = ''] = text.split(/^Server:.*$/m);
  const version = (part: string) => /^[ \t]*Version:[ \t]*(\S+)/m.exec(part)?.[1] ?? null;
  // Before 1.8 the output had one line each, such as `Client version: 1.6.2`.
  const old = (name: string) => new RegExp(`^${name} version:[ \\t]*(\\S+)`, 'm').exec(text)?.[1] ?? null;
  const facts = {
    client_version: version(client) ?? old('Client'),
    server_version: version(server) ?? old('Server'),
  };
  if (facts.client_version === null && facts.server_version === null) throw unreadable('docker version');
  const missing = Object.entries(facts).flatMap(([name, found]) => (found === null ? [name] : []));
  return missing.length === 0
    ? { facts }
    : { facts, problem: `docker version shows no ${missing.join(', ')}` };
}

type MachineFacts = Pick<NodeInfo, 'load' | 'memory' | 'uptime_seconds'>;

/** Reads the concatenation of /proc/loadavg, /proc/meminfo and /proc/uptime (proc(5)). */
export function readMachine(text: string): Reading<MachineFacts> {
  const load = /^(\d+\.\d+) (\d+\.\d+) (\d+\.\d+) /m.exec(text);
  const kilobytes = (name: string) => new RegExp(`^${name}:[ \\t]+(\\d+) kB`, 'm').exec(text)?.[1];
  const uptime = /^(\d+(?:\.\d+)?) \d+(?:\.\d+)?[ \t]*$/m.exec(text);
  const [total, available] = [kilobytes('MemTotal'), kilobytes('MemAvailable')];
  const facts = {
    load: load === null ? null : load.slice(1, 4).map(Number),
    memory:
      total === undefined
        ? null
        : { total_kb: Number(total), available_kb: available === undefined ? null : Number(available) },
    uptime_seconds: uptime === null ? null : Math.floor(Number(uptime[1])),
  };
  const missing = Object.entries(facts).flatMap(([name, found]) => (found === null ? [name] : []));
  if (missing.length === 3) throw unreadable('/proc');
  return missing.length === 0 ? { facts } : { facts, problem: `/proc shows no ${missing.join(', ')}` };
}

/** The code for a command that succeeded with output that cannot be read; used only inside this action. */
export const UNREADABLE = 'answer_unreadable';

export function unreadable(what: string, why = ''): ActionError {
  return new ActionError(UNREADABLE, `the output of ${what} cannot be read${why}`);
}
