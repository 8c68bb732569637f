import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'amqplib';
import type { ExecutionContext } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { queuesOf } from '../../src/rpc/queues.js';
import { HUNG_MS } from './eventually.js';
import { folder } from './settings.js';
import type { SystemdMachine, SystemdMachines } from './systemd-machines.js';
import { startWorker, type Worker } from './worker.js';

/** A cluster `lab` of systemd machines, and what callers and workers need for it over RabbitMQ. */
export interface SystemdCluster {
  /** The options of a call. */
  lab: { cluster: string; timeoutMs: number };
  client: FleetManagerClient;
  queue: string;
  /** Starts a worker of the queue. */
  start: (env?: Record<string, string>) => Promise<Worker>;
  /** Writes the clusters file anew. */
  rewrite: (text: string) => Promise<void>;
  /** The entry of the cluster with these machines. */
  entryOf: (listed: readonly SystemdMachine[]) => string;
}

export async function systemdCluster(
  t: ExecutionContext,
  rabbitmqUrl: string,
  { env }: Pick<SystemdMachines, 'env'>,
  machines: readonly SystemdMachine[],
): Promise<SystemdCluster> {
  const file = join(await folder(t), 'clusters.yaml');
  const entryOf = (listed: readonly SystemdMachine[]) =>
    `lab:\n  kind: systemd\n  machines:\n${listed
      .map(({ address }, index) => `    - { host: ${address}, metadata: { number: "${index + 1}" } }\n`)
      .join('')}`;
  const rewrite = async (text: string) => writeFile(file, text);
  await rewrite(entryOf(machines));
  const queue = `systemd_${randomUUID()}`;
  const client = new FleetManagerClient({ urls: [rabbitmqUrl], queue });
  t.teardown(async () => {
    await client.close();
    const connection = await connect(rabbitmqUrl);
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  return {
    lab: { cluster: 'lab', timeoutMs: HUNG_MS },
    client,
    queue,
    rewrite,
    entryOf,
    start: async (more = {}) =>
      startWorker(t, {
        ...env,
        AMQP_URL: rabbitmqUrl,
        QUEUE_NAME: queue,
        CLUSTERS_FILE: file,
        ALLOWED_HOSTS: '10.64.0.0/10',
        SSH_SUDO: 'true',
        ...more,
      }),
  };
}
