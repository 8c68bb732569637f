import { MAX_ELEMENTS, parseBounded } from '../lib/bounded-json.js';

type Fields = Readonly<Record<string, unknown>>;

/**
 * Whether a record was made for this request: action, token and parameters are equal. A missing key and null are equal, and
 * so are empty and missing parameters.
 * @param recorded the `request_body` of the record, as the Manager shows it. One without content proves nothing: true.
 * @param sent the `request_body` of the message, decoded
 */
export function isSameRequest(recorded: unknown, sent: Fields): boolean {
  const record = bodyFields(recorded);
  if (record === undefined || !hasContent(record)) return true;
  return (
    isSame(record.action, sent.action) &&
    isSame(record.etcd_token, sent.etcd_token) &&
    isSame(record.action_parameters ?? {}, sent.action_parameters ?? {})
  );
}

/** Whether the `request_body` of a record says what was asked for; one that does not proves nothing. */
export function namesRequest(recorded: unknown): boolean {
  const record = bodyFields(recorded);
  return record !== undefined && hasContent(record);
}

function hasContent(record: Fields): boolean {
  return !Object.values(record).every(isNull);
}

/** The Manager's table has the body as JSON text. */
function bodyFields(body: unknown): Fields | undefined {
  const value = typeof body === 'string' ? parsed(body) : body;
  return isFields(value) ? value : undefined;
}

function parsed(json: string): unknown {
  try {
    return parseBounded(Buffer.from(json), { maxElements: MAX_ELEMENTS });
  } catch {
    return undefined;
  }
}

/** The depth of the recursion is bounded by that of the message, which its codec limits. */
function isSame(recorded: unknown, sent: unknown): boolean {
  if (isNull(recorded) || isNull(sent)) return isNull(recorded) && isNull(sent);
  if (typeof recorded === 'string' && typeof sent === 'string')
    return onceEncoded(recorded) === onceEncoded(sent);
  if (Array.isArray(recorded) && Array.isArray(sent))
    return recorded.length === sent.length && sent.every((each, index) => isSame(recorded[index], each));
  if (isFields(recorded) && isFields(sent)) {
    const [ofRecord, ofMessage] = [entriesOf(recorded), entriesOf(sent)];
    return (
      ofRecord.size === ofMessage.size &&
      [...ofMessage].every(([key, value]) => ofRecord.has(key) && isSame(ofRecord.get(key), value))
    );
  }
  return recorded === sent;
}

/** Without nulls, and without the name of an Elixir struct, which its JSON does not have. */
function entriesOf(fields: Fields): ReadonlyMap<string, unknown> {
  const entries = Object.entries(fields).filter(([key, value]) => !isNull(value) && key !== '__struct__');
  return new Map(entries.map(([key, value]) => [onceEncoded(key), value]));
}

/** OpenAperture's HTTP client encodes characters beyond ASCII twice. */
function onceEncoded(text: string): string {
  if (!/[\u0080-\u00ff]/.test(text) || /[^\0-\u00ff]/.test(text)) return text;
  const decoded = Buffer.from(text, 'latin1').toString('utf8');
  return decoded.includes('\ufffd') ? text : decoded;
}

function isNull(value: unknown): boolean {
  return value === null || value === undefined;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
