import { randomUUID } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import { queuesOf } from '../../src/rpc/queues.js';
import type { TestBroker } from '../support/brokers.js';
import { sandboxEnv } from '../support/sandbox-env.js';
import { startWorker, type Worker } from '../support/worker.js';
import { type Collector, startCollector } from './collector.js';

export interface TracedWorld {
  sandbox: Sandbox;
  collector: Collector;
  queue: string;
  /** Starts the service as a separate process. */
  serve: (settings?: Record<string, string>) => Promise<Worker>;
}

export interface TracedService extends TracedWorld {
  worker: Worker;
}

/** The variables of OpenTelemetry with which a program sends its spans soon, as JSON. */
export function sendsTo(collector: Pick<Collector, 'url'>): Record<string, string> {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_BSP_SCHEDULE_DELAY: '20',
  };
}

/** A queue of its own, a simulated cluster with machines, and a collector: all that a service with traces needs. */
export async function openTraced(t: ExecutionContext, broker: TestBroker): Promise<TracedWorld> {
  const collector = await startCollector(t);
  const sandbox = await startSandbox({ ssh: true });
  t.teardown(async () => sandbox.stop());
  const queue = `traces_${randomUUID()}`;
  t.teardown(async () => {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  const env = {
    AMQP_URL: broker.url,
    QUEUE_NAME: queue,
    ...sandboxEnv(sandbox),
    SSH_SUDO: 'false',
    ...sendsTo(collector),
  };
  return { sandbox, collector, queue, serve: async (settings) => startWorker(t, { ...env, ...settings }) };
}

/** The same, with the service. */
export async function startTraced(
  t: ExecutionContext,
  broker: TestBroker,
  settings: Record<string, string> = {},
): Promise<TracedService> {
  const world = await openTraced(t, broker);
  return { ...world, worker: await world.serve(settings) };
}
