import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';
import { ErrorQueue, type ErrorQueueOptions, type Found } from './error-queue.js';
import { counted } from './finding.js';
import { printError } from './output.js';
import { UsageError } from './usage-error.js';

/** The options of every command about the error queue. */
export interface ErrorsOptions extends ErrorQueueOptions {
  json?: boolean;
}

/** Which messages a command is for. */
export interface Selection {
  /** Full IDs, or the beginnings of IDs. */
  ids: readonly string[];
  /** Instead of IDs: every message within the limit. */
  all?: boolean;
}

/** A shorter beginning of an ID is refused: it may soon be that of another message. */
const MIN_PREFIX = 4;

/** Opens the error queue for the time of this work. What it has not acknowledged is in the queue afterwards. */
export async function withErrorQueue<T>(
  options: ErrorQueueOptions,
  source: ConfigurationSource,
  work: (queue: ErrorQueue, configuration: Configuration) => Promise<T>,
): Promise<T> {
  const configuration = readConfiguration(source);
  const queue = await ErrorQueue.open(configuration, options);
  try {
    return await work(queue, configuration);
  } finally {
    await queue.close();
  }
}

/** Tells, on standard error, of messages that are not among those that were found. */
export function tellOfOthers(
  { left, gone, messages }: Found<unknown>,
  { name, broker, returns }: ErrorQueue,
): void {
  if (left > 0)
    printError(
      `${counted(left, 'message')} more in ${name} on ${broker}: only the oldest ${messages.length} were looked at; see --limit\n`,
    );
  if (gone > 0)
    printError(
      `${counted(gone, 'message')} less in ${name} than at first: another program holds the others, or has taken them\n`,
    );
  if (returns > 0)
    printError(
      `warning: ${name} is a quorum queue and counts how often a message comes back, which each of these commands makes it do (now ${returns}): it must have no delivery limit; RabbitMQ 4 has one of 20 unless the queue or a policy sets another\n`,
    );
}

/** Whether a message may be selected; cheap, as every message in the queue is asked. */
export function mayBeSelected(id: string, { ids, all = false }: Selection): boolean {
  return all || ids.some((each) => id.startsWith(each));
}

/**
 * The selected messages, in the order of the queue.
 * @throws UsageError when an ID names no message, or several
 */
export function selected<T extends { id: string }>(
  messages: readonly T[],
  { ids, all = false }: Selection,
): T[] {
  if (all) return [...messages];
  const chosen = new Set(ids.map((each) => oneOf(messages, each)));
  return messages.filter((each) => chosen.has(each));
}

function oneOf<T extends { id: string }>(messages: readonly T[], given: string): T {
  const exact = messages.find(({ id }) => id === given);
  if (exact !== undefined) return exact;
  if (given.length < MIN_PREFIX)
    throw new UsageError(`'${given}' is too short for an ID: give at least ${MIN_PREFIX} characters`);
  const [first, second] = messages.filter(({ id }) => id.startsWith(given));
  if (first === undefined)
    throw new UsageError(
      `no message ${given}: it is not among those that were looked at; see \`fleet-manager errors list\`, and --limit`,
    );
  if (second !== undefined)
    throw new UsageError(`${given} is the beginning of several IDs, such as ${first.id} and ${second.id}`);
  return first;
}

/** @throws UsageError unless there are IDs, or else `--all` */
export function requireSelection({ ids, all = false }: Selection): void {
  if (all === ids.length > 0)
    throw new UsageError(
      'give the IDs of messages, as `fleet-manager errors list` shows them, or else --all',
    );
}

/**
 * Runs work that ends early, between two messages, at the first SIGINT or SIGTERM. The second one ends the process at once, and
 * also then no message is lost.
 */
export async function interruptible<T>(work: (interrupted: AbortSignal) => Promise<T>): Promise<T> {
  const interrupted = new AbortController();
  const stop = () => interrupted.abort();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const signal of signals) process.once(signal, stop);
  try {
    return await work(interrupted.signal);
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
