import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Codec } from '../../src/rpc/codec/codec.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { jsonCodec } from '../../src/rpc/codec/json.js';
import { FleetApis } from '../fleet-apis.js';
import { type EventLoopDelay, ProbedService } from '../probed-service.js';
import type { BenchOptions, Measurement, Row } from '../row.js';
import { Caller, median, percentile } from '../support.js';

const CLUSTER = 'large';
const UNITS = 5_000;
const SMALL_EVERY_MS = 10;
const PLUGIN_PATHS = new URL('../plugins', import.meta.url).pathname;

interface Figures {
  loop: EventLoopDelay;
  /** The latencies of small requests in milliseconds, sorted. */
  small: number[];
  lists: number;
}

export const row: Row = {
  name: 'event-loop',
  title: `The event loop of the service, and small requests, while lists of ${UNITS} units are read and sent one after the other`,

  async measure(options: BenchOptions): Promise<Measurement> {
    const apis = await FleetApis.start([{ name: CLUSTER, units: UNITS }]);
    const service = await ProbedService.start(options.brokerUrl, {
      ...apis.settings,
      PLUGIN_PATHS,
    });
    const lister = await Caller.open(options.brokerUrl);
    try {
      const cases: [string, Codec | undefined][] = [
        ['no lists', undefined],
        ['list_units, JSON', jsonCodec],
        ['list_units, Erlang terms', new ErlangCodec()],
      ];
      const results = new Map<string, Figures[]>(cases.map(([name]) => [name, []]));
      for (const [, codec] of cases) await measureOnce(service, lister, codec, 1);
      for (let round = 0; round < options.rounds; round++) {
        for (const [name, codec] of cases)
          results.get(name)?.push(await measureOnce(service, lister, codec, options.seconds));
      }
      return measurementOf(results);
    } finally {
      await lister.close();
      await service.stop();
      await apis.stop();
    }
  },
};

async function measureOnce(
  service: ProbedService,
  lister: Caller,
  codec: Codec | undefined,
  seconds: number,
): Promise<Figures> {
  const end = performance.now() + seconds * 1_000;
  let lists = 0;
  const listing = async () => {
    if (codec === undefined) return;
    while (performance.now() < end) {
      await service.request({ action: 'list_units', etcd_token: CLUSTER }, { codec, by: lister });
      lists++;
    }
  };
  const small: Promise<number>[] = [];
  const asking = async () => {
    while (performance.now() < end) {
      small.push(ping(service));
      await delay(SMALL_EVERY_MS);
    }
  };
  const loop = await service.eventLoopDelayDuring(async () => Promise.all([listing(), asking()]));
  return { loop, small: (await Promise.all(small)).toSorted((a, b) => a - b), lists };
}

/** @returns how long it took, in milliseconds */
async function ping(service: ProbedService): Promise<number> {
  const start = performance.now();
  await service.request({
    action: 'ping',
    etcd_token: `c${randomUUID().slice(0, 1)}`,
    action_parameters: { number: 42 },
  });
  return performance.now() - start;
}

function measurementOf(results: ReadonlyMap<string, readonly Figures[]>): Measurement {
  const lines = [...results].map(([subject, rounds]) => {
    const of = (pick: (each: Figures) => number) => median(rounds.map(pick));
    return {
      subject,
      figures: {
        'loop p99 ms': of(({ loop }) => loop.p99),
        'loop p99 over time ms': of(({ loop }) => loop.p99OverTime),
        'loop max ms': of(({ loop }) => loop.max),
        'small p50 ms': of(({ small }) => percentile(small, 0.5)),
        'small p99 ms': of(({ small }) => percentile(small, 0.99)),
        'small max ms': of(({ small }) => small.at(-1) ?? Number.NaN),
        lists: of(({ lists }) => lists),
      },
    };
  });
  const goals = lines
    .filter(({ figures }) => figures.lists > 0)
    .flatMap(({ subject, figures }) => [
      { what: `event loop delay p99, ${subject}`, measured: figures['loop p99 ms'], limit: 20, unit: 'ms' },
      {
        what: `event loop delay p99 over time, ${subject}`,
        measured: figures['loop p99 over time ms'],
        limit: 20,
        unit: 'ms',
      },
      { what: `a small request's p99, ${subject}`, measured: figures['small p99 ms'], limit: 50, unit: 'ms' },
    ]);
  return { lines, goals };
}
