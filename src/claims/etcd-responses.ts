import { fieldsOf } from '../lib/fields-of.js';

/** A key of etcd with its value. */
export interface KeyValue {
  key: string;
  value: string;
  /** The revision in which the key was created; it changes when the key was deleted meanwhile. */
  createRevision: string;
  /** The revision of the latest write. */
  modRevision: string;
}

/** A response of etcd that cannot be used. The message says what is wrong, without quoting the response. */
export class UnreadableResponse extends Error {
  override readonly name = 'UnreadableResponse';
}

/** etcd writes 64-bit numbers as strings, and leaves out those that are 0. */
const NUMBER = /^\d{1,20}$/;

/** A number of a response, such as a revision or the ID of a lease, as its digits. */
export function readNumber(value: unknown, what: string): string {
  if (typeof value === 'string' && NUMBER.test(value)) return value;
  throw new UnreadableResponse(`${what} is no number`);
}

/** The keys that a part of a transaction has read. A part that wrote or deleted has read none. */
export function readKeys(part: unknown): KeyValue[] {
  const { response_range: range } = fieldsOf(part);
  const { kvs = [] } = fieldsOf(range);
  if (!Array.isArray(kvs)) throw new UnreadableResponse('the keys are no list');
  return kvs.map((each) => {
    const { key, value = '', create_revision: created, mod_revision: modified } = fieldsOf(each);
    return {
      key: readText(key, 'a key'),
      value: readText(value, 'a value'),
      createRevision: readNumber(created, 'create_revision'),
      modRevision: readNumber(modified, 'mod_revision'),
    };
  });
}

/** The parts of a transaction, and whether its comparisons held. */
export function readTransaction(response: unknown): { succeeded: boolean; parts: KeyValue[][] } {
  const { header, succeeded = false, responses = [] } = fieldsOf(response);
  // Each response of etcd has one: another program that answers has not.
  readNumber(fieldsOf(header).revision, 'the revision');
  if (typeof succeeded !== 'boolean' || !Array.isArray(responses))
    throw new UnreadableResponse('it is no response to a transaction');
  return { succeeded, parts: responses.map(readKeys) };
}

function readText(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new UnreadableResponse(`${what} is no text`);
  return Buffer.from(value, 'base64').toString('utf8');
}
