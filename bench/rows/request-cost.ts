import { type ChildProcess, spawn } from 'node:child_process';
import { type Peer, startPeers } from '../peers.js';
import { type EncodedPings, erlangPings, jsonPings, PING_PLUGINS, pingCall, warmUp } from '../ping.js';
import type { BenchOptions, Goal, Measurement, Row } from '../row.js';
import { cpuSeconds, end } from '../server-process.js';
import { Caller, endWithThisProcess, load, median, percentile, startService } from '../support.js';

const BARE = 'amqplib alone';
const JSON_SERVICE = 'fleet-manager, JSON';
const ERLANG_SERVICE = 'fleet-manager, Erlang terms';
const FEW = 1;
const MANY = 64;
const BARE_SERVER = new URL('../bare-server.js', import.meta.url).pathname;

interface Figures {
  perSecond: number;
  p50: number;
  p99: number;
  cpuMicros: number;
}

export const row: Row = {
  name: 'request-cost',
  title:
    'a very small request, against amqplib alone with the same guarantee: the reply confirmed, then the request acknowledged',
  async measure(options) {
    const caller = await Caller.open(options.brokerUrl);
    const subjects = startAll(caller, options.brokerUrl);
    try {
      subjects.push(...(await startPeers(caller, options.brokerUrl)));
      for (const subject of subjects) {
        await caller.declared(subject.queue);
        await warmUp(subject.call, MANY);
      }
      return measurementOf(await measureAlternately(subjects, options));
    } finally {
      for (const { process } of subjects) await end(process);
      for (const { queue } of subjects) await caller.channel.deleteQueue(queue);
      await caller.close();
    }
  },
};

function startAll(caller: Caller, url: string): Peer[] {
  const subject = (name: string, queue: string, pings: EncodedPings, process: ChildProcess): Peer => ({
    name,
    queue,
    process,
    call: pingCall(caller, queue, pings),
  });
  const service = (queue: string) => startService(queue, url, { PLUGIN_PATHS: PING_PLUGINS });
  return [
    subject(BARE, 'bench_bare', jsonPings(), startBare(url, 'bench_bare')),
    subject(JSON_SERVICE, 'bench_json', jsonPings(), service('bench_json')),
    subject(ERLANG_SERVICE, 'bench_erlang', erlangPings(), service('bench_erlang')),
  ];
}

function startBare(url: string, queue: string): ChildProcess {
  return endWithThisProcess(
    spawn('node', [BARE_SERVER, url, queue], { stdio: ['ignore', 'ignore', 'inherit'] }),
  );
}

/** @returns the figures of each round by subject and requests in flight */
async function measureAlternately(
  subjects: readonly Peer[],
  { rounds, seconds }: BenchOptions,
): Promise<Map<string, Figures[]>> {
  const results = new Map<string, Figures[]>();
  for (let round = 0; round < rounds; round++) {
    for (const inFlight of [FEW, MANY]) {
      for (const subject of subjects) {
        const key = line(subject.name, inFlight);
        results.set(key, [...(results.get(key) ?? []), await measureOnce(subject, inFlight, seconds)]);
      }
    }
  }
  return results;
}

async function measureOnce({ process, call }: Peer, inFlight: number, seconds: number): Promise<Figures> {
  const cpuBefore = cpuSeconds(process);
  const latencies = await load(inFlight, seconds, call);
  const cpu = cpuSeconds(process) - cpuBefore;
  return {
    perSecond: latencies.length / seconds,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99),
    cpuMicros: (cpu / latencies.length) * 1e6,
  };
}

function line(name: string, inFlight: number): string {
  return `${name}, ${inFlight} in flight`;
}

function measurementOf(results: Map<string, Figures[]>): Measurement {
  const lines = [...results].map(([subject, rounds]) => {
    const of = (pick: (each: Figures) => number) => median(rounds.map(pick));
    const figures = {
      'requests/s': of(({ perSecond }) => perSecond),
      'p50 ms': of(({ p50 }) => p50),
      'p99 ms': of(({ p99 }) => p99),
      'server CPU us a request': of(({ cpuMicros }) => cpuMicros),
    };
    return { subject, figures };
  });
  /** The median of the rounds' ratios: what disturbs a round usually disturbs both subjects. */
  const ratio = (subject: string, base: string, inFlight: number, pick: (each: Figures) => number) => {
    const bases = results.get(line(base, inFlight)) ?? [];
    const rounds = results.get(line(subject, inFlight)) ?? [];
    return median(rounds.map((each, round) => pick(each) / pick(bases[round] ?? each)));
  };
  const goals: Goal[] = [
    {
      what: `server CPU at ${MANY} in flight, against ${BARE}`,
      measured: ratio(JSON_SERVICE, BARE, MANY, ({ cpuMicros }) => cpuMicros),
      limit: 1.6,
    },
    {
      what: `p50 at ${FEW} in flight, against ${BARE}`,
      measured: ratio(JSON_SERVICE, BARE, FEW, ({ p50 }) => p50),
      limit: 1.1,
    },
    {
      what: `requests/s at ${MANY} in flight, against ${BARE}`,
      measured: ratio(JSON_SERVICE, BARE, MANY, ({ perSecond }) => perSecond),
      bound: 'at least',
      limit: 0.85,
    },
    {
      what: `server CPU at ${MANY} in flight with Erlang terms, against JSON`,
      measured: ratio(ERLANG_SERVICE, JSON_SERVICE, MANY, ({ cpuMicros }) => cpuMicros),
      limit: 1.3,
    },
  ];
  return { lines, goals };
}
