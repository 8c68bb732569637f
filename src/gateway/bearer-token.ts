import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';

/** Whether a header `Authorization` has this token. Compares in constant time, so that nobody can guess the token piece by piece. */
export function sameToken(header: string | undefined, token: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  // The name of a scheme is case-insensitive (RFC 9110, 11.1).
  return timingSafeEqual(hash((header ?? '').replace(/^bearer /i, 'Bearer ')), hash(`Bearer ${token}`));
}

/**
 * Whether a header `Host` is an address, or `localhost`. Without a token, any other is refused, against DNS rebinding: a web page whose
 * own host name resolves to this machine.
 */
export function isOwnName(host: string): boolean {
  const name = host
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
  return name === 'localhost' || isIP(name) !== 0;
}
