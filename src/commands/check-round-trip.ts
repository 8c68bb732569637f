import { Publisher } from '../messaging/publisher.js';
import { errorQueueOf, requireExchange } from '../messaging/queues.js';
import { type LiveConnection, reasonOf } from '../messaging/session.js';
import type { ManagerId } from '../openaperture/manager-answers.js';
import type { ManagerClient } from '../openaperture/manager-client.js';
import { RecordCaller, type RecordedAnswer } from '../openaperture/record-caller.js';
import { type RequestBody, requestTerm } from '../openaperture/request-term.js';
import type { Clock } from '../plugin.js';
import { withTimeLimit } from '../time-limit.js';
import { untilAborted } from '../until-aborted.js';
import { brokerRemedy, type BrokerToCheck, openBroker } from './check-brokers.js';
import { counted, type Finding } from './finding.js';

export interface RoundTripOptions {
  manager: ManagerClient;
  /** In the order to try them. */
  brokers: readonly BrokerToCheck[];
  queue: string;
  /** Where the brokers come from, for the advice. */
  settings: string;
  /** The cluster whose machines are asked for; undefined: one that does not exist, whose error is the answer. */
  cluster: string | undefined;
  /** How long each step may take. */
  limitMs: number;
  /** How long to wait for the answer. */
  answerMs: number;
  clock: Clock;
}

/** A step that failed; the message says how. */
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
 * Makes one request as OpenAperture's callers do: a record in the Manager, a message with the record's id, the answer
 * polled, the record deleted. The request changes nothing, and expires in the queue when no service takes it.
 */
export async function checkRoundTrip(options: RoundTripOptions): Promise<Finding> {
  const { manager, cluster, clock } = options;
  const records = new RecordCaller({ manager, clock });
  const body: RequestBody = { action: 'list_machines', etcd_token: cluster ?? ABSENT_CLUSTER };
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

/** @returns the connection by which it was published */
async function published(
  id: ManagerId,
  body: RequestBody,
  { brokers, queue, settings, limitMs, answerMs, clock }: RoundTripOptions,
): Promise<LiveConnection> {
  const problems: BrokenStep[] = [];
  for (const broker of brokers) {
    const { exchange } = broker;
    if (exchange === undefined) continue;
    const to = { exchange: exchange.rootExchangeName, routingKey: `${exchange.routingKey}.${queue}` };
    const publish = async (live: LiveConnection) => {
      await requireExchange(live, to.exchange);
      const publisher = await Publisher.open(live);
      // As OpenAperture's callers write ids: as text.
      return publisher.publish(to, requestTerm(String(id), body), {
        persistent: true,
        expiration: answerMs,
        headers: { 'timeout-ms': answerMs },
      });
    };
    let live: LiveConnection | undefined;
    let outcome: Awaited<ReturnType<typeof publish>>;
    try {
      live = await limited({ limitMs, clock }, async (signal) =>
        openBroker(broker, { tls: undefined }, signal),
      );
      const connection = live;
      outcome = await limited({ limitMs, clock }, async (signal) =>
        untilAborted(publish(connection), signal),
      );
    } catch (error) {
      problems.push(new BrokenStep(reasonOf(error), brokerRemedy(error, settings)));
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
  throw problems[0] ?? new BrokenStep('the Manager gives no exchange to publish to', 'check EXCHANGE_ID');
}

async function answered(
  id: ManagerId,
  live: LiveConnection,
  records: RecordCaller,
  options: RoundTripOptions,
): Promise<RecordedAnswer> {
  const { manager, queue, cluster, answerMs, clock } = options;
  const answer = await limited({ limitMs: answerMs, clock }, async (signal) =>
    records.poll(id, { signal }),
  ).catch(async (error: unknown) => {
    // Whether it is the Manager that does not answer is told by its own words.
    await limited(options, async (signal) => manager.record(id, { signal }));
    const consumers = await consumersOf(live, queue);
    throw consumers === 0
      ? new BrokenStep(`${reasonOf(error)}: no service takes requests from the queue ${queue}`, 'start it')
      : new BrokenStep(
          `${reasonOf(error)}, though the queue ${queue} has ${counted(consumers, 'consumer')}`,
          `look for request ${id} in the log of the service; what nobody took is in ${errorQueueOf(queue)}`,
        );
  });
  if (answer.status === 'error' && cluster !== undefined)
    throw new BrokenStep(
      answerText(answer),
      'the way there and back is open; docs/errors.md says what it means',
    );
  return answer;
}

async function consumersOf(live: LiveConnection, queue: string): Promise<number> {
  return (await live.probe(async (channel) => channel.checkQueue(queue))).consumerCount;
}

function answerText({ status, responseBody }: RecordedAnswer): string {
  if (status === 'completed') return 'it was answered: completed';
  const { code, errors }: { code?: unknown; errors?: unknown } =
    typeof responseBody === 'object' && responseBody !== null ? { ...responseBody } : {};
  const [text] = Array.isArray(errors) ? errors.map(String) : [];
  const said = [code, text].filter((each) => typeof each === 'string').join(': ');
  return `it was answered: error${said === '' ? '' : `, ${said.slice(0, 300)}`}`;
}

async function limited<T>(
  { limitMs, clock }: { limitMs: number; clock: Clock },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = { ms: limitMs, message: `no answer within ${limitMs / 1_000} s`, clock };
  return withTimeLimit(limit, async (signal) => untilAborted(work(signal), signal));
}
