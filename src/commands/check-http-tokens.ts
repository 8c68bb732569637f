import type { HttpTokens } from '../access/http-tokens.js';
import { counted, type Finding, listed, ok, warned } from './finding.js';

/** How long before its end a token is named, in milliseconds. */
const SOON_MS = 14 * 24 * 60 * 60_000;

/** Names the tokens of callers over HTTP that have expired, or will soon. @param now in milliseconds since the epoch */
export function checkHttpTokens(tokens: readonly TokenTime[], now: number): Finding {
  const ended = tokens.filter(({ expires = Infinity }) => expires <= now);
  const ending = tokens.filter(({ expires = Infinity }) => expires > now && expires <= now + SOON_MS);
  const count = `HTTP_TOKENS_FILE has ${counted(tokens.length, 'token')}`;
  if (ended.length + ending.length === 0) return ok(count);
  return warned([
    count,
    ...(ended.length === 0 ? [] : [`expired: ${shown(ended)}`]),
    ...(ending.length === 0 ? [] : [`expires within 14 days: ${shown(ending)}`]),
    '-> give these callers new tokens, or remove the entries',
  ]);
}

type TokenTime = ReturnType<HttpTokens['ofFile']>[number];

function shown(tokens: readonly TokenTime[]): string {
  return listed(tokens.map(({ name, expires = 0 }) => `${name} (${new Date(expires).toISOString()})`));
}
