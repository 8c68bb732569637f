import { errorBodyOf } from '../client/error-body.js';
import { ConfirmChannel } from '../rpc/confirm-channel.js';
import { errorQueueOf, isNotFound, requireExchange } from '../rpc/queues.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { withoutCredentials } from '../rpc/broker-address.js';
import { reasonOf } from '../lib/errors.js';
import type { ManagerId } from '../openaperture/manager-responses.js';
import type { ManagerClient } from '../openaperture/manager-client.js';
import { RecordCaller, type RecordedReply } from '../openaperture/record-caller.js';
import { type RequestBody, requestTerm } from '../openaperture/request-term.js';
import type { Clock } from '../lib/clock.js';
import { withTimeLimit } from '../api/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import { brokerRemedy, type BrokerToCheck, openBroker } from './check-brokers.js';
import { UNKNOWN_CLUSTER } from './check-cluster.js';
import { counted, type Finding } from './finding.js';

export interface RoundTripOptions {
  manager: ManagerClient;
  /** In the order in which they are tried. */
  brokers: readonly BrokerToCheck[];
  queue: string;
  /** Names the source of the broker addresses, for the remedy. */
  settings: string;
  /** The action to call. It must only read and require no parameters. */
  action: string;
  /** The cluster to call it on; undefined: one that does not exist, so that the reply is an error. */
  cluster: string | undefined;
  /** The time limit of each step, in milliseconds. */
  limitMs: number;
  /** The time limit for the reply, in milliseconds. */
  replyMs: number;
  clock: Clock;
}

/** A failed step, with the remedy. */
class FailedStep extends Error {
  override readonly name = 'FailedStep';
  readonly remedy: string;

  constructor(message: string, remedy: string) {
    super(message);
    this.remedy = remedy;
  }
}

const MANAGER_REMEDY = 'check that the Manager (MANAGER_URL) is up, and its log';

/**
 * Makes one request as OpenAperture's callers do: creates a record in the Manager, publishes a message with the id of the
 * record, polls the record for the reply, and deletes the record. The request changes nothing. It expires in the queue when
 * no service consumes it.
 */
export async function checkRoundTrip(options: RoundTripOptions): Promise<Finding> {
  const { manager, action, cluster, clock } = options;
  const records = new RecordCaller({ manager, clock });
  const body: RequestBody = { action, etcd_token: cluster ?? UNKNOWN_CLUSTER };
  const lines: string[] = [];
  let result: Finding['result'] = 'ok';
  const step = async <T>(work: () => Promise<T>, describe: (found: T) => string): Promise<T | undefined> => {
    try {
      const found = await work();
      lines.push(describe(found));
      return found;
    } catch (error) {
      result = 'FAILED';
      lines.push(reasonOf(error), `-> ${error instanceof FailedStep ? error.remedy : MANAGER_REMEDY}`);
      return undefined;
    }
  };
  const id = await step(
    async () => withinLimit(options, async (signal) => records.create(body, { signal })),
    (created) => `the Manager created the record ${created}`,
  );
  if (id === undefined) return { result, lines };
  const connection = await step(
    async () => publishRequest(id, body, options),
    ({ broker }) => `${broker} accepted the request ${body.action}`,
  );
  if (connection !== undefined) {
    const startedAt = clock.now();
    await step(
      async () => waitForReply(id, connection, records, options),
      (reply) => `${replyText(reply)}, after ${((clock.now() - startedAt) / 1_000).toFixed(1)} s`,
    );
    await connection.close(clock);
  }
  await step(
    async () => withinLimit(options, async (signal) => records.delete(id, { signal })),
    () => 'the record is deleted',
  );
  return { result, lines };
}

/** @returns the connection on which it was published */
async function publishRequest(
  id: ManagerId,
  body: RequestBody,
  { brokers, queue, settings, limitMs, replyMs, clock }: RoundTripOptions,
): Promise<BrokerConnection> {
  const problems: FailedStep[] = [];
  for (const broker of brokers) {
    const { exchange } = broker;
    if (exchange === undefined) continue;
    const to = { exchange: exchange.rootExchangeName, routingKey: `${exchange.routingKey}.${queue}` };
    const publish = async (connection: BrokerConnection) => {
      await requireExchange(connection, to.exchange);
      const publisher = await ConfirmChannel.open(connection);
      // OpenAperture's callers send the id as text.
      return publisher.publish(to, requestTerm(String(id), body), {
        persistent: true,
        expiration: replyMs,
        headers: { 'timeout-ms': replyMs },
      });
    };
    let opened: BrokerConnection | undefined;
    let outcome: Awaited<ReturnType<typeof publish>>;
    try {
      opened = await withinLimit({ limitMs, clock }, async (signal) =>
        openBroker(broker, { tls: undefined }, signal),
      );
      const connection = opened;
      outcome = await withinLimit({ limitMs, clock }, async () => publish(connection));
    } catch (error) {
      problems.push(
        new FailedStep(
          `${withoutCredentials(broker.url)}: ${reasonOf(error)}`,
          brokerRemedy(error, settings),
        ),
      );
      await opened?.close(clock);
      continue;
    }
    if (outcome === 'routed') return opened;
    const at = opened.broker;
    await opened.close(clock);
    throw outcome === 'nacked'
      ? new FailedStep(`${at}: the queue ${queue} is full`, 'check why no service consumes its messages')
      : new FailedStep(
          `${at}: no queue is bound to the exchange ${to.exchange} by ${to.routingKey}, so no request reaches the service`,
          `bind the queue ${queue} to the exchange on that broker`,
        );
  }
  const [first, ...others] = problems;
  if (first === undefined)
    throw new FailedStep('the Manager gives no exchange to publish to', 'check EXCHANGE_ID');
  throw new FailedStep([first, ...others].map(({ message }) => message).join('\n'), first.remedy);
}

async function waitForReply(
  id: ManagerId,
  connection: BrokerConnection,
  records: RecordCaller,
  options: RoundTripOptions,
): Promise<RecordedReply> {
  const { manager, cluster, replyMs, clock } = options;
  const limit = { limitMs: replyMs, clock };
  const reply = await withinLimit(limit, async (signal) => records.poll(id, { signal })).catch(
    async (error: unknown) => {
      // Reads the record again: when the Manager fails, this error of the Manager is the reason to report.
      await withinLimit(options, async (signal) => manager.record(id, { signal }));
      throw await explainMissingReply(reasonOf(error), id, connection, options);
    },
  );
  if (isExpected(reply, cluster)) return reply;
  throw new FailedStep(
    replyText(reply),
    'requests and replies arrive; see docs/errors.md for the code, and the log of the service for details',
  );
}

/** Without a cluster an error is expected. The original FleetManager sends errors without a code. */
function isExpected({ status, responseBody }: RecordedReply, cluster: string | undefined): boolean {
  if (status === 'completed') return true;
  const { code } = errorBodyOf(responseBody);
  return cluster === undefined && [undefined, 'cluster_not_found', 'unknown_action'].includes(code);
}

/** Finds out from the queue why there is no reply. */
async function explainMissingReply(
  reason: string,
  id: ManagerId,
  connection: BrokerConnection,
  options: RoundTripOptions,
): Promise<FailedStep> {
  const { queue } = options;
  const inLog = `look for request ${id} in the log of the service; if no service consumed it, it is in ${errorQueueOf(queue)} now`;
  try {
    const check = async () => connection.probe(async (channel) => channel.checkQueue(queue));
    const { consumerCount } = await withinLimit(options, check);
    return consumerCount === 0
      ? new FailedStep(
          `${reason}: no service consumes the queue ${queue}`,
          `start the service; the expired request is in ${errorQueueOf(queue)} now, if that queue exists`,
        )
      : new FailedStep(
          `${reason}, though the queue ${queue} has ${counted(consumerCount, 'consumer')}`,
          inLog,
        );
  } catch (error) {
    return isNotFound(error)
      ? new FailedStep(
          `${reason}: the queue ${queue} does not exist; the exchange routes its requests to another queue`,
          'check QUEUE_NAME',
        )
      : new FailedStep(`${reason}, and the queue cannot be checked: ${reasonOf(error)}`, inLog);
  }
}

function replyText({ status, responseBody }: RecordedReply): string {
  if (status === 'completed') return 'reply received: completed';
  const { code, errors } = errorBodyOf(responseBody);
  const details = [code, errors[0]?.slice(0, 300)].filter((each) => each !== undefined).join(': ');
  return `reply received: error${details === '' ? '' : `, ${details}`}`;
}

async function withinLimit<T>(
  { limitMs, clock }: { limitMs: number; clock: Clock },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = { ms: limitMs, message: `no response within ${limitMs / 1_000} s`, clock };
  return withTimeLimit(limit, async (signal) => untilAborted(work(signal), signal));
}
