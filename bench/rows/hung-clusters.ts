import {
  type Comparison,
  HungClustersTrial,
  hungName,
  listMachines,
  type RequestBody,
} from '../hung-clusters-trial.js';
import type { Goal, Row } from '../row.js';
import { startService } from '../support.js';

/** The number of hung clusters, and of requests for each. */
const CASES = [
  [1, 150],
  [2, 150],
  [3, 60],
  [8, 40],
] as const;
const WITHOUT_CLUSTER = 300;
const MOST_P50_RATIO = 1.2;
const MOST_P99_MORE_MS = 50;

interface Case {
  name: string;
  hung: RequestBody[];
  /** The clusters that answer for a while before they hang. */
  warm: string[];
}

/**
 * Callers of the hung clusters send all their requests at once, and again a second after each refusal. The last case is
 * requests without a cluster, for machines whose SSH server accepts connections and stays silent.
 */
export const row: Row = {
  name: 'hung-clusters',
  title: 'list_machines on a healthy cluster with 8 in flight, alone and beside clusters that hang',
  async measure({ brokerUrl, rounds, seconds }) {
    const trial = await HungClustersTrial.open(brokerUrl, (queue, settings) =>
      startService(queue, brokerUrl, settings),
    );
    try {
      const results: { name: string; comparison: Comparison }[] = [];
      for (const { name, hung, warm } of cases())
        results.push({ name, comparison: await trial.compare(hung, warm, { rounds, seconds }) });
      return {
        lines: results.map(({ name, comparison }) => ({ subject: name, figures: figuresOf(comparison) })),
        goals: goalsOf(results.map(({ comparison }) => comparison)),
      };
    } finally {
      await trial.close();
    }
  },
};

function figuresOf({ alone, beside, p50Ratio, p99More }: Comparison): Record<string, number> {
  return {
    'alone p50 ms': alone.p50,
    'alone p99 ms': alone.p99,
    'beside p50 ms': beside.p50,
    'beside p99 ms': beside.p99,
    'p50 ratio': p50Ratio,
    'p99 more ms': p99More,
    refused: beside.failed,
  };
}

function goalsOf(comparisons: Comparison[]): Goal[] {
  const largest = (pick: (each: Comparison) => number) => Math.max(...comparisons.map(pick));
  return [
    {
      what: 'p50 beside hung clusters against alone, the largest',
      measured: largest(({ p50Ratio }) => p50Ratio),
      limit: MOST_P50_RATIO,
    },
    {
      what: 'p99 longer beside hung clusters, the most',
      measured: largest(({ p99More }) => p99More),
      limit: MOST_P99_MORE_MS,
      unit: 'ms',
    },
    {
      what: 'requests of the healthy cluster refused, the most',
      measured: largest(({ beside }) => beside.failed),
      limit: 0,
    },
  ];
}

function cases(): Case[] {
  const clusters = [false, true].flatMap((warm) =>
    CASES.map(([count, calls]) => {
      const names = Array.from({ length: count }, (_, n) => hungName(n));
      return {
        name: `${count} x ${calls} requests${warm ? ', warm' : ''}`,
        hung: names.flatMap((name) => Array<RequestBody>(calls).fill(listMachines(name))),
        warm: warm ? names : [],
      };
    }),
  );
  const withoutCluster = Array.from({ length: WITHOUT_CLUSTER }, (_, n) => ({
    action: 'node_info',
    action_parameters: { nodes: [`127.0.1.${n % 250}`] },
  }));
  return [...clusters, { name: `${WITHOUT_CLUSTER} without a cluster`, hung: withoutCluster, warm: [] }];
}
