import type { Clock } from '../lib/clock.js';
import { clockDifference } from './clock-offset.js';
import { type Finding, listed, ok, skipped, warned } from './finding.js';

/** An HTTP server; its responses have the header `Date`. */
export interface TimeServer {
  /** For people, such as `the discovery service`. */
  name: string;
  url: string;
}

/**
 * Compares the clock of this host with those of servers. A server that does not tell its time is left out.
 * @param options.limitMs the time limit for each server, in milliseconds
 */
export async function checkClock(
  servers: readonly TimeServer[],
  options: { clock: Pick<Clock, 'wallTime'>; limitMs: number },
): Promise<Finding> {
  const answers = await Promise.all(
    servers.map(async (server) => ({ server, reading: await readClock(server.url, options) })),
  );
  const read = answers.flatMap(({ server, reading }) => (reading === undefined ? [] : [{ server, reading }]));
  if (read.length === 0) return skipped('not checked: no server tells its time');
  const different = read.flatMap(({ server, reading }) => {
    const difference = clockDifference(reading);
    return difference === undefined ? [] : [`the clock of ${server.name} is ${difference}`];
  });
  if (different.length === 0)
    return ok(`the clock of this host agrees with ${listed(read.map(({ server }) => server.name))}`);
  return warned([
    ...different,
    '-> synchronize the clocks by NTP (timedatectl status); first find out which one is wrong',
  ]);
}

async function readClock(
  url: string,
  { clock, limitMs }: { clock: Pick<Clock, 'wallTime'>; limitMs: number },
) {
  const askedAt = clock.wallTime();
  const signal = AbortSignal.timeout(limitMs);
  // Whether the server can be reached is the subject of other checks.
  const response = await fetch(url, { method: 'HEAD', redirect: 'manual', signal }).catch(() => undefined);
  const answeredAt = clock.wallTime();
  const time = Date.parse(response?.headers.get('date') ?? '');
  return Number.isNaN(time) ? undefined : { time, precisionMs: 1_000, askedAt, answeredAt };
}
