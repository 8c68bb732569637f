import { describeActions } from '../composition.js';
import type { ActionDescription } from '../core/action-description.js';
import type { Catalogue } from '../core/catalogue.js';
import { reasonOf } from '../lib/errors.js';
import { printable } from '../lib/printable.js';
import { type DeadLetter, readDeadLetter, replayedProperties, wasDeadLettered } from '../rpc/dead-letter.js';
import { PublishRefused, UnpublishableError } from '../rpc/publish-errors.js';
import { readSender } from '../rpc/sender.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import type { ErrorMessage, ErrorQueue } from './error-queue.js';
import { durationText } from './error-summary.js';
import {
  type ErrorsOptions,
  interruptible,
  mayBeSelected,
  requireSelection,
  selected,
  type Selection,
  tellOfOthers,
  withErrorQueue,
} from './errors.js';
import { print, printError } from './output.js';
import { type QueuedRequest, requestReader } from './queued-request.js';

export interface ReplayOptions extends ErrorsOptions {
  /** Whether to replay also what is refused otherwise. */
  force?: boolean;
}

/** What came of a message. */
interface Replayed {
  id: string;
  /** `failed`: the broker did not take it. `left`: the command was ended before its turn. */
  result: 'replayed' | 'refused' | 'failed' | 'left';
  action: string | null;
  text: string;
}

type Effect = ActionDescription['effect'] | undefined;

interface Chosen {
  id: string;
  message: ErrorMessage;
  request: QueuedRequest;
}

/**
 * Publishes messages of the error queue as requests again, the oldest first, and removes each one from the error queue when the
 * broker has confirmed its copy.
 * @returns the exit code: 1 when the broker did not take a message, or the command was interrupted; 2 when a message was refused
 */
export async function replayErrors(
  selection: Selection,
  options: ReplayOptions,
  source: ConfigurationSource,
): Promise<number> {
  requireSelection(selection);
  return withErrorQueue(options, source, async (queue, { rpc, plugins, environment, watchdogSeconds }) => {
    // Before messages are held: plugins may take long to load.
    const catalogue = await describeActions({ plugins, environment, watchdogSeconds });
    const read = requestReader(rpc);
    const found = await queue.look((message) => ({
      id: message.id,
      chosen: mayBeSelected(message.id, selection) ? message : undefined,
    }));
    const chosen = selected(found.messages, selection).flatMap(({ id, chosen: message }) =>
      message === undefined ? [] : [{ id, message, request: read(message) }],
    );
    await queue.openPublisher();
    const results = await interruptible(async (interrupted) =>
      replayAll(chosen, { queue, catalogue, options, interrupted }),
    );
    if (options.json) print(`${JSON.stringify({ results }, null, 2)}\n`);
    tellOfOthers(found, queue);
    if (results.some(({ result }) => result === 'failed' || result === 'left')) return 1;
    return results.some(({ result }) => result === 'refused') ? 2 : 0;
  });
}

interface Replay {
  queue: ErrorQueue;
  catalogue: Catalogue;
  options: ReplayOptions;
  interrupted: AbortSignal;
}

async function replayAll(chosen: readonly Chosen[], replay: Replay): Promise<Replayed[]> {
  const { options, queue, interrupted } = replay;
  const results: Replayed[] = [];
  let ended: string | undefined;
  for (const each of chosen) {
    if (interrupted.aborted) ended ??= 'the command was interrupted';
    const [result, text] =
      ended === undefined
        ? await replayOne(each, replay).catch((error: unknown) => {
            ended = reasonOf(error);
            return ['failed', `not known: it may be in both queues: ${ended}`] as const;
          })
        : (['left', `not replayed: ${ended}`] as const);
    results.push({ id: each.id, result, action: each.request.action ?? null, text });
    if (!options.json) print(`${each.id}  ${printable(text)}\n`);
  }
  try {
    await queue.flush();
  } catch (error) {
    printError(`the last messages may be in ${queue.name} still, besides their copies: ${reasonOf(error)}\n`);
  }
  return results;
}

async function replayOne(
  { message, request }: Chosen,
  { queue, catalogue, options }: Replay,
): Promise<readonly [Replayed['result'], string]> {
  const { content, properties, acknowledge } = message;
  const dead = readDeadLetter(properties);
  const now = Date.now();
  const effect = effectOf(request, catalogue);
  const refusal = options.force
    ? undefined
    : (strangerIn(message, queue) ?? refusalOf(request, { ...dead, effect, now }));
  if (refusal !== undefined) return ['refused', `refused: ${refusal}`];
  const leftMs = dead.endsAt !== undefined && dead.endsAt > now ? dead.endsAt - now : undefined;
  const again = replayedProperties(properties, { ownUser: queue.user, now, leftMs });
  try {
    const outcome = await queue.publishRequest(content, again);
    if (outcome === 'nacked')
      return ['failed', 'not replayed: the queue of the service is full, or has failed'];
    if (outcome === 'unroutable')
      return [
        'failed',
        'not replayed: the queue of the service does not exist; the service creates it when it starts',
      ];
  } catch (error) {
    if (!(error instanceof PublishRefused) && !(error instanceof UnpublishableError)) throw error;
    return ['failed', `not replayed: the broker does not accept it: ${reasonOf(error)}`];
  }
  // Only now: whenever the command ends, the message is in one of the queues, or in both.
  acknowledge();
  const what = `${request.action ?? 'a message that names no action'}${effect === 'read' ? '' : ' (a change)'}`;
  const time = `it expires in ${durationText(Number(again.expiration))}`;
  return ['replayed', `replayed: ${what}; ${callerText(message, queue)}; ${time}`];
}

/** Undefined: the action is not installed here, and may change something. */
function effectOf({ action }: QueuedRequest, catalogue: Catalogue): Effect {
  return action === undefined ? undefined : catalogue.find(action)?.description.effect;
}

/** Why a message is not replayed without `--force`; undefined: it is. */
function refusalOf(
  { problem, action, wantsReply }: QueuedRequest,
  {
    effect,
    now,
    endsAt,
    mayHaveBegun,
  }: Pick<DeadLetter, 'endsAt' | 'mayHaveBegun'> & { effect: Effect; now: number },
): string | undefined {
  if (problem !== undefined)
    return `the service would put it into the error queue again: ${problem}; --force replays it all the same`;
  if (effect === 'read')
    return wantsReply
      ? undefined
      : `nobody gets a reply to it, so the service would not run ${action}, which only reads; --force replays it all the same`;
  const change =
    effect === undefined
      ? `${action ?? 'its action'} is not installed here and may be a change`
      : `${action} is a change`;
  if (mayHaveBegun)
    return `${change}, and a worker may have begun it: look first what came of it; --force may make it twice`;
  if (endsAt !== undefined && endsAt > now) return undefined;
  const since = endsAt === undefined ? '' : ` since ${durationText(now - endsAt)}`;
  return `${change}, and its caller does not wait for it any more${since}; --force makes it all the same`;
}

/**
 * Why a message of another user is not replayed without `--force`; undefined: it is of nobody, or of this user. Whoever may publish
 * can put a message into the error queue, and where this is not the user of the service, it would run with the rights of this one.
 */
function strangerIn({ properties }: ErrorMessage, { user }: ErrorQueue): string | undefined {
  const publisher: unknown = properties.userId;
  if (user === undefined || typeof publisher !== 'string' || publisher === user) return undefined;
  return `${publisher} has published it, and it would run with the rights of ${user} if that is not the user of the service; --force replays it all the same`;
}

/** As whose request the service gets it. */
function callerText({ properties }: ErrorMessage, { user }: ErrorQueue): string {
  if (user === undefined) return 'its caller will not be known';
  const { name } = readSender(properties, user, false);
  if (name === undefined) return 'its caller is not known, as before';
  const publisher: unknown = properties.userId;
  if (publisher === user) return `caller ${name}, as before`;
  if (wasDeadLettered(properties))
    return `caller ${user}, as the user of the service is another one (${name})`;
  // Nothing tells which user the service has.
  return `caller ${name}, or ${user} when that is not the user of the service`;
}
