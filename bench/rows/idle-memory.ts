import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Row } from '../row.js';
import {
  end,
  type Memory,
  memoryOf,
  startBareConsumer,
  startConsumer,
  untilConsuming,
} from '../started-consumer.js';
import { median } from '../support.js';

/** How long nothing happens before the memory is read for the second time, in milliseconds. */
const QUIET_MS = 20_000;
const MOST_MB = 80;

const SERVICE = 'service';
const AFTER_HTTP = 'service after an HTTP request';

export const row: Row = {
  name: 'idle-memory',
  title: 'memory of the process a while after it consumes, and after 20 s of quiet',
  async measure({ brokerUrl, rounds, seconds }) {
    const queue = `bench.memory.${process.pid}`;
    const service =
      (settings: Record<string, string> = {}) =>
      () =>
        startConsumer(queue, brokerUrl, settings);
    const subjects = new Map<string, () => ChildProcess>([
      ['node with amqplib alone', () => startBareConsumer(queue, brokerUrl)],
      [SERVICE, service()],
      [AFTER_HTTP, service()],
      ['service without HTTP', service({ HTTP_PORT: 'off' })],
      ['service without its watchdog thread', service({ WATCHDOG_SECONDS: '0' })],
    ]);
    const figures = new Map([...subjects.keys()].map((subject) => [subject, [] as Figures[]]));
    for (let left = rounds; left > 0; left--) {
      const children = new Map<string, ChildProcess>();
      try {
        for (const [subject, start] of subjects) {
          const child = start();
          children.set(subject, child);
          const lines = await untilConsuming(child);
          if (subject === AFTER_HTTP) await requestOf(lines);
        }
        await sleep(seconds * 1_000);
        const first = new Map([...children].map(([subject, child]) => [subject, memoryOf(child).rss]));
        await sleep(QUIET_MS);
        for (const [subject, child] of children)
          figures.get(subject)?.push({ first: first.get(subject) ?? Number.NaN, ...memoryOf(child) });
      } finally {
        await Promise.all([...children.values()].map(end));
      }
    }
    const of = (subject: string, figure: keyof Figures) =>
      median((figures.get(subject) ?? []).map((each) => each[figure]));
    return {
      lines: [...figures.keys()].map((subject) => ({
        subject,
        figures: {
          'RSS MB': of(subject, 'first'),
          'RSS after quiet MB': of(subject, 'rss'),
          'PSS MB': of(subject, 'pss'),
          'USS MB': of(subject, 'uss'),
        },
      })),
      goals: [
        { what: 'idle memory of the service', measured: of(SERVICE, 'rss'), limit: MOST_MB, unit: 'MB' },
      ],
    };
  },
};

/** The memory after the quiet time, and the RSS before it. */
interface Figures extends Memory {
  first: number;
}

/** Makes a request like an orchestrator's probe. @param lines of the log, one of which has the address */
async function requestOf(lines: readonly string[]): Promise<void> {
  const [, url] = /"http":"([^"]+)"/.exec(lines.join('\n')) ?? [];
  if (url === undefined) throw new Error(`the service has no gateway:\n${lines.join('\n')}`);
  const response = await fetch(`${url}/readyz`);
  await response.text();
}
