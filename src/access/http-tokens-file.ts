import { createHash } from 'node:crypto';
import { fieldsOf } from '../lib/fields-of.js';

/** A token of a caller over HTTP. */
export interface NamedToken {
  /** Who sends it. */
  name: string;
  /** The SHA-256 of the token. A plain hash is enough: tokens are random, so nobody can try all that are likely. */
  sha256: Buffer;
  /** From when on it is refused, in milliseconds since the epoch; undefined: never. */
  expires: number | undefined;
}

/** The name of the caller who sends `HTTP_TOKEN`. */
export const HTTP_TOKEN_NAME = 'http-token';

const RESERVED: ReadonlySet<string> = new Set(['anonymous', 'manager', HTTP_TOKEN_NAME]);
const NAME = /^[A-Za-z0-9][\w.@/+-]{0,63}$/;
const NAME_FORM = '1 to 64 of the characters A-Z a-z 0-9 . _ - @ / +, beginning with a letter or a digit';
const KEYS: ReadonlySet<string> = new Set(['name', 'sha256', 'expires']);
/** RFC 3339: with a time zone, so that it is the same moment on every machine. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;
const MAX_TOKENS = 1_000;
const MAX_PROBLEMS = 20;
const MISTAKES: ReadonlyMap<string, string> = new Map(
  ['', '\n'].map((text) => [hashOf(text).toString('hex'), text === '' ? 'nothing' : 'an empty line']),
);

export function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/**
 * Reads a file of tokens: `[{ "name": "ci", "sha256": "...", "expires": "2027-01-01T00:00:00Z" }]`, in which `expires` is optional.
 * @throws Error that lists all problems, and quotes no hash
 */
export function parseTokensFile(text: string): NamedToken[] {
  const entries = entriesOf(text);
  const problems: string[] = [];
  const names = new Set<string>();
  const hashes = new Map<string, string>();
  const tokens = entries.flatMap((entry, index) => {
    const { name, sha256, expires } = fieldsOf(entry);
    const where = typeof name === 'string' && NAME.test(name) ? `'${name}'` : `entry ${index + 1}`;
    const found = [
      ...keyProblems(entry),
      nameProblem(name, names),
      hashProblem(sha256, hashes),
      expires === undefined || timeOf(expires) !== undefined
        ? undefined
        : 'expires must be a time with its zone, such as "2027-01-01T00:00:00Z"',
    ].filter((problem) => problem !== undefined);
    problems.push(...found.map((problem) => `${where}: ${problem}`));
    if (typeof name !== 'string' || typeof sha256 !== 'string') return [];
    names.add(name);
    hashes.set(sha256.toLowerCase(), where);
    return [{ name, sha256: Buffer.from(sha256, 'hex'), expires: timeOf(expires) }];
  });
  if (problems.length > MAX_PROBLEMS) problems.splice(MAX_PROBLEMS, Infinity, '...');
  if (problems.length > 0) throw new Error(problems.join('; '));
  return tokens;
}

function entriesOf(text: string): unknown[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message would quote the file.
    throw new Error('it is not valid JSON');
  }
  if (!Array.isArray(value)) throw new Error('it must be a JSON list of {"name": ..., "sha256": ...}');
  if (value.length > MAX_TOKENS) throw new Error(`it has more than ${MAX_TOKENS} tokens`);
  return value;
}

function keyProblems(entry: unknown): string[] {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    return ['it must be a map with name and sha256'];
  const unknown = Object.keys(entry).filter((key) => !KEYS.has(key));
  // The value of another key may be the token itself, so no key is quoted that could be one.
  return unknown.length === 0 ? [] : ['it may have only name, sha256 and expires'];
}

function nameProblem(name: unknown, names: ReadonlySet<string>): string | undefined {
  if (typeof name !== 'string' || !NAME.test(name)) return `name must be ${NAME_FORM}`;
  if (RESERVED.has(name)) return 'this name is taken: choose another one';
  return names.has(name) ? 'another entry has the same name' : undefined;
}

function hashProblem(sha256: unknown, hashes: ReadonlyMap<string, string>): string | undefined {
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/i.test(sha256))
    return 'sha256 must be the SHA-256 of the token, 64 hexadecimal digits: printf %s TOKEN | sha256sum';
  const hash = sha256.toLowerCase();
  const mistake = MISTAKES.get(hash);
  if (mistake !== undefined) return `sha256 is that of ${mistake}: printf %s TOKEN | sha256sum`;
  const other = hashes.get(hash);
  return other === undefined ? undefined : `it has the same token as ${other}`;
}

function timeOf(expires: unknown): number | undefined {
  if (typeof expires !== 'string' || !TIME.test(expires)) return undefined;
  const time = Date.parse(expires);
  return Number.isNaN(time) ? undefined : time;
}
