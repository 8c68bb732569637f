import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Peer } from '../peers.js';
import { type EncodedPings, jsonPings, PING_PLUGINS, pingCall, warmUp } from '../ping.js';
import type { BenchOptions, Goal, Measurement, Row } from '../row.js';
import { cpuSeconds, end } from '../server-process.js';
import { Caller, load, median, startService } from '../support.js';

const IN_FLIGHT = 64;
const LIMIT = 1.25;

/** The requests that are sent, by what they are. */
const MIXES: Readonly<Record<string, EncodedPings>> = {
  'reads only': jsonPings(),
  // Sixteen of each kind in turn.
  'one change in ten': jsonPings([...Array.from({ length: 9 }, () => 'ping'), 'ping_change']),
};

const PLAIN = 'without them';
const WATCHED = 'metrics, policy, audit to a file';

interface Figures {
  perSecond: number;
  cpuMicros: number;
}

export const row: Row = {
  name: 'production-cost',
  title:
    'a very small request with metrics, a policy and an audit file, against the same build without them; normal logging in both',
  async measure(options) {
    const folder = mkdtempSync(join(tmpdir(), 'production-cost-'));
    const caller = await Caller.open(options.brokerUrl);
    const subjects = startAll(caller, options.brokerUrl, folder);
    try {
      for (const { plain, watched } of subjects)
        for (const { queue, call } of [plain, watched]) {
          await caller.declared(queue);
          await warmUp(call, IN_FLIGHT);
        }
      return measurementOf(await measureAlternately(subjects, options));
    } finally {
      const all = subjects.flatMap(({ plain, watched }) => [plain, watched]);
      for (const { process } of all) await end(process);
      for (const { queue } of all) await caller.channel.deleteQueue(queue);
      await caller.close();
      rmSync(folder, { recursive: true });
    }
  },
};

/** Two services that get the same requests. */
interface Pair {
  mix: string;
  plain: Peer;
  watched: Peer;
}

function startAll(caller: Caller, url: string, folder: string): Pair[] {
  const policy = join(folder, 'policy.json');
  writeFileSync(policy, JSON.stringify(policyOfTeams()));
  return Object.entries(MIXES).map(([mix, pings], index) => {
    const peer = (name: string, queue: string, settings: Record<string, string>): Peer => ({
      name,
      queue,
      process: startService(queue, url, { PLUGIN_PATHS: PING_PLUGINS, ...settings }),
      call: pingCall(caller, queue, pings),
    });
    const audit = join(folder, `audit-${index}.jsonl`);
    return {
      mix,
      plain: peer(PLAIN, `bench_plain_${index}`, {}),
      watched: peer(WATCHED, `bench_watched_${index}`, {
        METRICS_PORT: '0',
        POLICY_FILE: policy,
        AUDIT: audit,
      }),
    };
  });
}

/** As many rules as a company with some teams has; the last one allows what the benchmark asks for. */
function policyOfTeams(): object {
  const teams = Array.from({ length: 20 }, (_, n) => ({
    callers: [`team-${n}`],
    effects: ['read', 'change'],
    clusters: [`cluster-${n}`],
    units: [`team-${n}-*.service`],
  }));
  return { rules: [...teams, { callers: ['anonymous'], actions: ['ping', 'ping_change'] }] };
}

async function measureAlternately(
  pairs: readonly Pair[],
  { rounds, seconds }: BenchOptions,
): Promise<Map<string, { plain: Figures; watched: Figures }[]>> {
  const results = new Map<string, { plain: Figures; watched: Figures }[]>();
  for (let round = 0; round < rounds; round++)
    for (const { mix, plain, watched } of pairs) {
      const figures = {
        plain: await measureOnce(plain, seconds),
        watched: await measureOnce(watched, seconds),
      };
      results.set(mix, [...(results.get(mix) ?? []), figures]);
    }
  return results;
}

async function measureOnce({ process, call }: Peer, seconds: number): Promise<Figures> {
  const cpuBefore = cpuSeconds(process);
  const latencies = await load(IN_FLIGHT, seconds, call);
  const cpu = cpuSeconds(process) - cpuBefore;
  return { perSecond: latencies.length / seconds, cpuMicros: (cpu / latencies.length) * 1e6 };
}

function measurementOf(
  results: ReadonlyMap<string, readonly { plain: Figures; watched: Figures }[]>,
): Measurement {
  const lines: Measurement['lines'] = [];
  const goals: Goal[] = [];
  for (const [mix, rounds] of results) {
    for (const [name, key] of [
      [PLAIN, 'plain'],
      [WATCHED, 'watched'],
    ] as const) {
      const of = (pick: (each: Figures) => number) => median(rounds.map((each) => pick(each[key])));
      const figures = {
        'requests/s': of(({ perSecond }) => perSecond),
        'server CPU us a request': of(({ cpuMicros }) => cpuMicros),
      };
      lines.push({ subject: `${mix}, ${name}`, figures });
    }
    // The median of the rounds' ratios: what disturbs a round usually disturbs both.
    const measured = median(rounds.map(({ plain, watched }) => watched.cpuMicros / plain.cpuMicros));
    goals.push({ what: `server CPU at ${IN_FLIGHT} in flight, ${mix}`, measured, limit: LIMIT });
  }
  return { lines, goals };
}
