import { errorBodyOf } from '../client/error-body.js';
import { ConfirmChannel } from '../rpc/confirm-channel.js';
import { errorQueueOf, isNotFound, requireExchange } from '../rpc/queues.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { withoutCredentials } from '../rpc/broker-address.js';
import { reasonOf } from '../lib/errors.js';
import type { ManagerId } from '../openaperture/manager-answers.js';
import type { ManagerClient } from '../openaperture/manager-client.js';
import { RecordCaller, type RecordedReply } from '../openaperture/record-caller.js';
import { type RequestBody, requestTerm } from '../openaperture/request-term.js';
import type { Clock } from '../lib/clock.js';
import { withTimeLimit } from '../api/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import { brokerRemedy, type BrokerToCheck, openBroker } from './check-brokers.js';
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
  /** How long to wait for the answer. */
  answerMs: number;
  clock: Clock;
}

/** A failed step; the message says how it failed. */
class BrokenStep extends Error {
  override readonly name = 'BrokenStep';
  readonly remedy: string;

  constructor(message: string, remedy: string) {
    super(message);
    this.remedy = remedy;
  }
}

const ABSENT_CLUSTER = 'fleet-manager-doctor';
const MANAGER_REMEDY = 'check that the Manager (MANAGER_URL) is up, and its log';

/**
 * Makes one request as OpenAperture's callers do: creates a record in the Manager, publishes a message with the record's
 * id, polls the reply, deletes the record. The request changes nothing, and expires in the queue if no service takes it.
 */
export async function checkRoundTrip(options: RoundTripOptions): Promise<Finding> {
  const { manager, action, cluster, clock } = options;
  const records = new RecordCaller({ manager, clock });
  const body: RequestBody = { action, etcd_token: cluster ?? ABSENT_CLUSTER };
  const lines: string[] = [];
  let result: Finding['result'] = 'ok';
  const step = async <T>(work: () => Promise<T>, say: (found: T) => string): Promise<T | undefined> => {
    try {
      const found = await work();
      lines.push(say(found));
      return found;
    } catch (error) {
      result = 'FAILED';
      lines.push(reasonOf(error), `-> ${error instanceof BrokenStep ? error.remedy : MANAGER_REMEDY}`);
      return undefined;
    }
  };
  const id = await step(
    async () => limited(options, async (signal) => records.create(body, { signal })),
    (made) => `the Manager made the record ${made}`,
  );
  if (id === undefined) return { result, lines };
  const live = await step(
    async () => published(id, body, options),
    ({ broker }) => `${broker} took the request ${body.action}`,
  );
  if (live !== undefined) {
    const begun = clock.now();
    await step(
      async () => answered(id, live, records, options),
      (answer) => `${answerText(answer)}, after ${((clock.now() - begun) / 1_000).toFixed(1)} s`,
    );
    await live.close(clock);
  }
  await step(
    async () => limited(options, async (signal) => records.delete(id, { signal })),
    () => 'the record is deleted',
  );
  return { result, lines };
}

/** @returns the connection on which it was published */
async function published(
  id: ManagerId,
  body: RequestBody,
  { brokers, queue, settings, limitMs, answerMs, clock }: RoundTripOptions,
): Promise<BrokerConnection> {
  const problems: BrokenStep[] = [];
  for (const broker of brokers) {
    const { exchange } = broker;
    if (exchange === undefined) continue;
    const to = { exchange: exchange.rootExchangeName, routingKey: `${exchange.routingKey}.${queue}` };
    const publish = async (live: BrokerConnection) => {
      await requireExchange(live, to.exchange);
      const publisher = await ConfirmChannel.open(live);
      // As text, like OpenAperture's callers.
      return publisher.publish(to, requestTerm(String(id), body), {
        persistent: true,
        expiration: answerMs,
        headers: { 'timeout-ms': answerMs },
      });
    };
    let live: BrokerConnection | undefined;
    let outcome: Awaited<ReturnType<typeof publish>>;
    try {
      live = await limited({ limitMs, clock }, async (signal) =>
        openBroker(broker, { tls: undefined }, signal),
      );
      const connection = live;
      outcome = await limited({ limitMs, clock }, async () => publish(connection));
    } catch (error) {
      problems.push(
        new BrokenStep(
          `${withoutCredentials(broker.url)}: ${reasonOf(error)}`,
          brokerRemedy(error, settings),
        ),
      );
      await live?.close(clock);
      continue;
    }
    if (outcome === 'routed') return live;
    const at = live.broker;
    await live.close(clock);
    throw outcome === 'refused'
      ? new BrokenStep(`${at}: the queue ${queue} is full`, 'see why its messages are not taken')
      : new BrokenStep(
          `${at}: no queue is bound to the exchange ${to.exchange} by ${to.routingKey}, so no request arrives`,
          `bind the queue ${queue} to it there`,
        );
  }
  const [first, ...others] = problems;
  if (first === undefined)
    throw new BrokenStep('the Manager gives no exchange to publish to', 'check EXCHANGE_ID');
  throw new BrokenStep([first, ...others].map(({ message }) => message).join('\n'), first.remedy);
}

async function answered(
  id: ManagerId,
  live: BrokerConnection,
  records: RecordCaller,
  options: RoundTripOptions,
): Promise<RecordedReply> {
  const { manager, cluster, answerMs, clock } = options;
  const limit = { limitMs: answerMs, clock };
  const answer = await limited(limit, async (signal) => records.poll(id, { signal })).catch(
    async (error: unknown) => {
      // Asks the Manager again: its own error explains a failure of the Manager.
      await limited(options, async (signal) => manager.record(id, { signal }));
      throw await unanswered(reasonOf(error), id, live, options);
    },
  );
  if (isExpected(answer, cluster)) return answer;
  throw new BrokenStep(
    answerText(answer),
    'requests and answers arrive; docs/errors.md explains the code, and the log of the service has more',
  );
}

/** Without a cluster an error is expected; the original FleetManager sends none with a code. */
function isExpected({ status, responseBody }: RecordedReply, cluster: string | undefined): boolean {
  if (status === 'completed') return true;
  const { code } = errorBodyOf(responseBody);
  return cluster === undefined && [undefined, 'cluster_not_found', 'unknown_action'].includes(code);
}

/** What the queue shows about a request without a reply. */
async function unanswered(
  reason: string,
  id: ManagerId,
  live: BrokerConnection,
  options: RoundTripOptions,
): Promise<BrokenStep> {
  const { queue } = options;
  const inLog = `look for request ${id} in the log of the service; if none took it, it is in ${errorQueueOf(queue)} now`;
  try {
    const look = async () => live.probe(async (channel) => channel.checkQueue(queue));
    const { consumerCount } = await limited(options, look);
    return consumerCount === 0
      ? new BrokenStep(
          `${reason}: no service takes requests from the queue ${queue}`,
          `start it; the expired request is in ${errorQueueOf(queue)} now, if there is such a queue`,
        )
      : new BrokenStep(
          `${reason}, though the queue ${queue} has ${counted(consumerCount, 'consumer')}`,
          inLog,
        );
  } catch (error) {
    return isNotFound(error)
      ? new BrokenStep(
          `${reason}: there is no queue ${queue}; the exchange passes its requests to another`,
          'check QUEUE_NAME',
        )
      : new BrokenStep(`${reason}, and the broker does not say why: ${reasonOf(error)}`, inLog);
  }
}

function answerText({ status, responseBody }: RecordedReply): string {
  if (status === 'completed') return 'it was answered: completed';
  const { code, errors } = errorBodyOf(responseBody);
  const said = [code, errors[0]?.slice(0, 300)].filter((each) => each !== undefined).join(': ');
  return `it was answered: error${said === '' ? '' : `, ${said}`}`;
}

async function limited<T>(
  { limitMs, clock }: { limitMs: number; clock: Clock },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = { ms: limitMs, message: `no answer within ${limitMs / 1_000} s`, clock };
  return withTimeLimit(limit, async (signal) => untilAborted(work(signal), signal));
}
