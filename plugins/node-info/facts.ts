import { ActionError } from '../../src/plugin.js';
import type { Disk, Docker, NodeInfo, Os } from './result.js';

/** Reads the output of `df -P -m`: a header, then one line with the columns that POSIX defines. */
export function readDisk(text: string): Disk {
  const columns = /^.*\s(\d+)\s+(\d+)\s+(-?\d+)\s+(\d+)%\s/m.exec(text);
  if (columns === null) throw unreadable('df');
  const [, size, used, available, percent] = columns.map(Number);
  return { size_mb: size ?? 0, used_mb: used ?? 0, available_mb: available ?? 0, used_percent: percent ?? 0 };
}

/** Reads os-release(5). */
export function readOs(text: string): { text: string; facts: Os } {
  const value = (name: string) => new RegExp(`^${name}=(["']?)(.*)\\1$`, 'm').exec(text)?.[2] ?? null;
  if (value('ID') === null && value('NAME') === null) throw unreadable('/etc/os-release');
  return {
    text,
    facts: { id: value('ID'), version: value('VERSION_ID') ?? value('VERSION'), name: value('PRETTY_NAME') },
  };
}

/** Reads `docker version`: a section for the client and one for the server, each with its version. */
export function readDocker(text: string): { text: string; facts: Docker } {
  const [client = '', server = ''] = text.split(/^Server:.*$/m);
  const version = (part: string) => /^\s*Version:\s*(\S+)/m.exec(part)?.[1] ?? null;
  // Before 1.8 the output had one line each, such as `Client version: 1.6.2`.
  const old = (name: string) => new RegExp(`^${name} version:\\s*(\\S+)`, 'm').exec(text)?.[1] ?? null;
  const facts = {
    client_version: version(client) ?? old('Client'),
    server_version: version(server) ?? old('Server'),
  };
  if (facts.client_version === null && facts.server_version === null) throw unreadable('docker version');
  return { text, facts };
}

/** Reads the concatenation of /proc/loadavg, /proc/meminfo and /proc/uptime (proc(5)). */
export function readMachine(text: string): Pick<NodeInfo, 'load' | 'memory' | 'uptime_seconds'> {
  const load = /^(\d+\.\d+) (\d+\.\d+) (\d+\.\d+) /.exec(text);
  const kilobytes = (name: string) => new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1];
  const uptime = /^(\d+(?:\.\d+)?) \d+(?:\.\d+)?\s*$/m.exec(text);
  const total = kilobytes('MemTotal');
  if (load === null || total === undefined || uptime === null) throw unreadable('/proc');
  const available = kilobytes('MemAvailable');
  return {
    load: load.slice(1, 4).map(Number),
    memory: { total_kb: Number(total), available_kb: available === undefined ? null : Number(available) },
    uptime_seconds: Math.floor(Number(uptime[1])),
  };
}

/** The code for a command that succeeded with output that cannot be read; used only inside this action. */
export const UNREADABLE = 'answer_unreadable';

export function unreadable(what: string, why = ''): ActionError {
  return new ActionError(UNREADABLE, `the output of ${what} cannot be read${why}`);
}
