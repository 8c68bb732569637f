import type { ChildProcess } from 'node:child_process';
import type { Row } from '../row.js';
import { cpuMs, end, startBareConsumer, startConsumer, untilConsuming } from '../started-consumer.js';
import { median } from '../support.js';

/** A start is short, so that each round has several. */
const STARTS = 5;
const MOST_RATIO = 2.5;

const BARE = 'node with amqplib alone';
const SERVICE = 'service';

export const row: Row = {
  name: 'start',
  title: 'from the start of the process until it consumes, against a script that connects with amqplib alone',
  async measure({ brokerUrl, rounds }) {
    const queue = `bench.start.${process.pid}`;
    const subjects = new Map<string, () => ChildProcess>([
      [BARE, () => startBareConsumer(queue, brokerUrl)],
      [SERVICE, () => startConsumer(queue, brokerUrl, {})],
      ['service without HTTP', () => startConsumer(queue, brokerUrl, { HTTP_PORT: 'off' })],
    ]);
    const starts = new Map([...subjects.keys()].map((subject) => [subject, [] as Start[]]));
    // The first starts of all declare the queues and read the files from the disk.
    for (const start of subjects.values()) await measured(start);
    for (let left = rounds * STARTS; left > 0; left--)
      for (const [subject, start] of subjects) starts.get(subject)?.push(await measured(start));
    const lines = [...starts].map(([subject, all]) => ({
      subject,
      figures: {
        'start ms': median(all.map(({ ms }) => ms)),
        'fastest ms': Math.min(...all.map(({ ms }) => ms)),
        'CPU ms': median(all.map(({ cpu }) => cpu)),
      },
    }));
    const [bare, service] = [BARE, SERVICE].map((subject) =>
      median((starts.get(subject) ?? []).map(({ ms }) => ms)),
    );
    return {
      lines,
      goals: [
        {
          what: 'start of the service until it consumes, against node with amqplib alone',
          measured: (service ?? Number.NaN) / (bare ?? Number.NaN),
          limit: MOST_RATIO,
        },
      ],
    };
  },
};

interface Start {
  ms: number;
  /** All threads together: on a machine with one core, or a busy one, they take turns. */
  cpu: number;
}

async function measured(start: () => ChildProcess): Promise<Start> {
  const began = performance.now();
  const child = start();
  try {
    await untilConsuming(child);
    return { ms: performance.now() - began, cpu: cpuMs(child) };
  } finally {
    await end(child);
  }
}
