import { stringifyExactly } from '../lib/exact-json.js';
import { printable } from '../lib/printable.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import type { ErrorMessage } from './error-queue.js';
import { durationText, type ErrorSummary, sizeText, summaryOf, timeText } from './error-summary.js';
import { type ErrorsOptions, mayBeSelected, selected, tellOfOthers, withErrorQueue } from './errors.js';
import { withoutMarked, withoutSecrets } from './hidden-secrets.js';
import { print } from './output.js';
import { type QueuedRequest, requestReader } from './queued-request.js';
import { type MarksOf, secretMarks } from './secret-marks.js';

/** All of a message but its secrets. */
export interface ErrorDetails extends ErrorSummary {
  properties: Record<string, unknown>;
  headers: unknown;
  /** The decoded body; null: it cannot be decoded. */
  body: unknown;
  /** Why the service would dead-letter it again; null: it is a valid request. */
  problem: string | null;
}

/** Prints one message of the error queue, without its secrets. */
export async function showError(
  id: string,
  options: ErrorsOptions,
  source: ConfigurationSource,
): Promise<number> {
  return withErrorQueue(options, source, async (queue, configuration) => {
    const marksOf = await secretMarks(configuration);
    const read = requestReader(configuration.rpc);
    const selection = { ids: [id] };
    const found = await queue.look((message) => ({
      id: message.id,
      details: mayBeSelected(message.id, selection) ? detailsOf(message, read(message), marksOf) : undefined,
    }));
    tellOfOthers(found, queue);
    for (const { details } of selected(found.messages, selection)) {
      if (details === undefined) continue;
      print(options.json ? `${stringifyExactly(details, 2)}\n` : textOf(details));
    }
    return 0;
  });
}

export function detailsOf(message: ErrorMessage, request: QueuedRequest, marksOf: MarksOf): ErrorDetails {
  const { headers, ...others } = message.properties;
  const given = Object.fromEntries(Object.entries(others).filter(([, value]) => value !== undefined));
  const hidden = (value: unknown) => withoutSecrets(value, request.etcdToken);
  return {
    ...summaryOf(message, request),
    properties: Object.fromEntries(Object.entries(given).map(([name, value]) => [name, hidden(value)])),
    headers: hidden(headers ?? {}),
    body:
      request.encoding === undefined ? null : hidden(withoutMarked(request.decoded, marksOf(request.action))),
    problem: request.problem ?? null,
  };
}

function textOf(details: ErrorDetails): string {
  const { dead_lettered_at: at, ends_at: endsAt, properties, headers, body, encoding } = details;
  const now = Date.now();
  const rows: [string, string][] = [
    ['id', details.id],
    ['reason', details.reason ?? '-'],
    ['dead-lettered', at === null ? '-' : `${timeText(at)}, ${durationText(now - at)} ago`],
    ['caller', details.caller ?? '-'],
    ['caller waits', details.wants_reply ? (endsAt === null ? '-' : waitText(endsAt, now)) : 'for no reply'],
    ['action', details.action ?? '-'],
    ['cluster', details.cluster ?? '-'],
    ['may have begun', details.may_have_begun ? 'yes' : 'no'],
    ['replays', String(details.replays)],
    ['size', `${sizeText(details.bytes)}${encoding === null ? '' : `, ${encoding}`}`],
    ...(details.problem === null ? [] : ([['problem', details.problem]] as [string, string][])),
  ];
  const lines = rows.map(([name, value]) => `${name.padEnd(15)} ${printable(value)}`);
  const shown = encoding === null ? 'not shown, as it cannot be decoded' : stringifyExactly(body, 2);
  return [
    ...lines,
    `properties      ${stringifyExactly(properties, 2)}`,
    `headers         ${stringifyExactly(headers, 2)}`,
    `body            ${shown}`,
    '',
  ].join('\n');
}

function waitText(endsAt: number, now: number): string {
  const duration = durationText(endsAt - now);
  return endsAt > now ? `until ${timeText(endsAt)}, for ${duration}` : `no more, since ${duration}`;
}
