import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { type ReadLine, readLine } from '../access/audit/audit-line.js';
import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import { systemClock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { printableLines } from '../lib/printable.js';
import { type BrokerAddress, userOf } from '../rpc/broker-address.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { brokerReason, refusalOf } from '../rpc/broker-refusal.js';
import { auditStreamOf } from '../rpc/queues.js';
import { openConnection } from '../rpc/open-connection.js';
import { ownUserOf } from '../rpc/own-user.js';
import { connect } from '../rpc/patched-amqplib.js';
import { readStream } from '../rpc/read-stream.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';
import { configuredBrokers } from './configured-brokers.js';
import { counted } from './finding.js';
import { HistoryRows } from './history-rows.js';
import { printError, printUnchanged } from './output.js';
import { formatOf, type OutputOptions, tableStyle } from './output-options.js';
import { UsageError } from './usage-error.js';

export interface HistoryOptions extends OutputOptions {
  /** The etcd token of a cluster, its hash, or its name. */
  cluster?: string;
  /** The cluster when none is named. */
  standardCluster?: string;
  caller?: string;
  action?: string;
  /** In milliseconds since the epoch. */
  since?: number;
  follow?: boolean;
  /** The user of the service on the broker. */
  user?: string;
}

/** What was read, and what was left out. */
interface Counts {
  /** Published by another user than the service's: anyone who may publish on the broker can write such lines. */
  forged: number;
  /** No lines of the audit. */
  unreadable: number;
}

/** Prints what the audit has: from the stream on the broker, or from the file. @returns the exit code */
export async function history(options: HistoryOptions, source: ConfigurationSource): Promise<number> {
  const configuration = readConfiguration(source);
  const target = configuration.audit?.target ?? 'stream';
  if (target === 'stderr')
    throw new UsageError('AUDIT is stderr: the audit is where the standard error of the workers is kept');
  const { cluster = options.standardCluster, follow = false } = options;
  if (cluster !== options.cluster)
    printError('only the cluster of FLEET_MANAGER_CLUSTER is shown; see --cluster\n');
  const isWanted = filterOf({ ...options, cluster });
  const format = formatOf(options, process.stdout.isTTY ? 'table' : 'ndjson', 'ndjson');
  const style = { ...tableStyle(options, source.env), columns: options.columns };
  const rows = format === 'table' ? new HistoryRows({ follow, style }) : undefined;
  const counts: Counts = { forged: 0, unreadable: 0 };
  const show = (text: string) => {
    const line = readLine(text);
    if (line === undefined) counts.unreadable++;
    else if (isWanted(line)) printUnchanged(rows === undefined ? printableLines(`${text}\n`) : rows.of(line));
  };
  if (target !== 'stream') await readFile(target, options, show);
  else await readBroker(configuration, options, { show, counts });
  if (rows !== undefined) printUnchanged(rows.rest());
  reportCounts(counts, options.user);
  return 0;
}

function filterOf({ cluster, caller, action, since }: HistoryOptions): (line: ReadLine) => boolean {
  const hash = cluster !== undefined && CLUSTER_TOKEN.test(cluster) ? new Cluster(cluster).hash : cluster;
  return (line) => {
    if (since !== undefined && Date.parse(line.time) < since) return false;
    // What is lost may be what is asked for.
    if (line.event === 'gap') return true;
    if (caller !== undefined && line.caller !== caller) return false;
    if (action !== undefined && line.action !== action) return false;
    return (
      cluster === undefined ||
      [line.cluster, line.cluster_name].some((each) => each === cluster || each === hash)
    );
  };
}

async function readFile(
  path: string,
  { follow = false }: Pick<HistoryOptions, 'follow'>,
  show: (text: string) => void,
): Promise<void> {
  if (follow) throw new UsageError(`AUDIT is a file: follow it with \`tail -F ${path}\``);
  const input = createReadStream(path);
  try {
    // Workers begin with an empty line after a disk was full.
    for await (const line of createInterface({ input, crlfDelay: Infinity })) if (line !== '') show(line);
  } finally {
    input.destroy();
  }
}

async function readBroker(
  configuration: Configuration,
  { user, since, follow = false }: HistoryOptions,
  { show, counts }: { show: (text: string) => void; counts: Counts },
): Promise<void> {
  const { amqp, rpc } = configuration;
  const stream = auditStreamOf(rpc.queue);
  const brokers = await configuredBrokers(
    configuration,
    'AMQP_URL is not set: set it to the broker of the service, or AUDIT to its file',
  );
  const connection = await connected(brokers, amqp?.tls);
  const hungUp = new AbortController();
  // Its reader may have closed the pipe.
  process.stdout.once('error', () => hungUp.abort());
  try {
    const service = user ?? (await ownUserOf(connection, amqp?.tls.cert)) ?? userOf(connection.address.url);
    const seen = new RecentIds();
    await readStream(connection, {
      stream,
      since,
      follow,
      signal: hungUp.signal,
      onMessages: async (messages) => {
        for (const { content, userId, messageId } of messages) {
          if (userId !== service) counts.forged++;
          else if (messageId === undefined || seen.add(messageId)) show(content.toString('utf8'));
        }
        if (process.stdout.writableNeedDrain && !hungUp.signal.aborted)
          await new Promise((resolve) => {
            process.stdout.once('drain', resolve);
            process.stdout.once('error', resolve);
          });
      },
    });
  } catch (error) {
    const reason =
      refusalOf(error)?.code === 404
        ? `the broker has no stream ${stream}: set AUDIT=stream for the service, and check QUEUE_NAME`
        : `the history cannot be read: ${brokerReason(error)}`;
    throw new Error(reason, { cause: error });
  } finally {
    await connection.close(systemClock);
  }
}

/** A connection to the first of the brokers that can be reached. */
async function connected(
  brokers: readonly BrokerAddress[],
  tls: NonNullable<Configuration['amqp']>['tls'] | undefined,
): Promise<BrokerConnection> {
  const failures: unknown[] = [];
  for (const broker of brokers) {
    try {
      const connection = await openConnection(broker, {
        connect,
        tls,
        name: 'fleet-manager history',
        clock: systemClock,
      });
      if (brokers.length > 1)
        printError(`reading from ${connection.broker}, one of ${brokers.length} brokers\n`);
      return connection;
    } catch (error) {
      failures.push(error);
    }
  }
  const cause = new AggregateError(failures);
  throw new Error(`no broker can be reached: ${reasonOf(cause)}`, { cause });
}

function reportCounts({ forged, unreadable }: Counts, user: string | undefined): void {
  if (forged > 0)
    printError(
      `${counted(forged, 'line')} left out that the service has not written: another user has published ${forged === 1 ? 'it' : 'them'}\n${user === undefined ? '-> if the service has another user on the broker than AMQP_URL here, name it: --user NAME\n' : ''}`,
    );
  if (unreadable > 0) printError(`${counted(unreadable, 'line')} left out that cannot be read\n`);
}

/** The ids of the latest messages: one may be in the stream twice, as its confirmation was lost with a connection. */
class RecentIds {
  static readonly #MOST = 20_000;
  #older = new Set<string>();
  #newer = new Set<string>();

  /** @returns false: it was added before */
  add(id: string): boolean {
    if (this.#newer.has(id) || this.#older.has(id)) return false;
    this.#newer.add(id);
    if (this.#newer.size >= RecentIds.#MOST) {
      this.#older = this.#newer;
      this.#newer = new Set();
    }
    return true;
  }
}
