import { timingSafeEqual } from 'node:crypto';
import type { Caller } from '../api/caller.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { HTTP_TOKEN_NAME, hashOf, type NamedToken, parseTokensFile } from './http-tokens-file.js';
import { WatchedFile } from '../lib/watched-file.js';

/** Who calls, or why the call is refused. */
export type Authentication = { readonly caller: Caller } | { readonly refused: string };

export interface HttpTokensOptions {
  /** `HTTP_TOKEN`. */
  token: string | undefined;
  /** The path of a file with more tokens; undefined: none. */
  file: string | undefined;
  clock: Clock;
  log: Logger;
}

/** A token with what a call with it gets, so that a call makes nothing. */
interface KnownToken extends NamedToken {
  accepted: Authentication;
  expired: Authentication;
}

const MISSING: Authentication = { refused: 'send a token of this gateway as Authorization: Bearer TOKEN' };
const UNKNOWN: Authentication = { refused: 'this gateway has no such token' };
/** None is shorter, so that no hash of a short or empty text in the file lets anybody in. */
const LEAST_CHARACTERS = 16;

/** The tokens by which the HTTP gateway knows its callers. */
export class HttpTokens {
  readonly #clock: Clock;
  readonly #single: readonly KnownToken[];
  readonly #file: WatchedFile<readonly KnownToken[]> | undefined;

  /** @throws Error that says why the file cannot be used */
  constructor({ token, file, clock, log }: HttpTokensOptions) {
    this.#clock = clock;
    this.#single =
      token === undefined
        ? []
        : [known({ name: HTTP_TOKEN_NAME, sha256: hashOf(token), expires: undefined })];
    this.#file =
      file === undefined
        ? undefined
        : new WatchedFile({
            path: file,
            parse: (text) => parseTokensFile(text).map(known),
            phrases: { reloaded: 'HTTP tokens reloaded', refused: 'HTTP tokens refused' },
            clock,
            log,
          });
  }

  /** Reads the file again whenever it changes, until `stop`. */
  start(): void {
    this.#file?.start();
  }

  stop(): void {
    this.#file?.stop();
  }

  /** Reads the file again now. One that cannot be used is logged, and changes nothing. */
  reload(): void {
    this.#file?.reload();
  }

  /** The callers in the file, and until when they may call, in milliseconds since the epoch. */
  ofFile(): readonly Pick<NamedToken, 'name' | 'expires'>[] {
    return this.#file?.content ?? [];
  }

  /** How many tokens there are, expired ones included. */
  get count(): number {
    return this.#single.length + this.ofFile().length;
  }

  /** @param authorization the header of that name */
  readonly authenticate = (authorization: string | undefined): Authentication => {
    // The name of a scheme is case-insensitive (RFC 9110, 11.1).
    const [, token] = /^bearer (.*)$/i.exec(authorization ?? '') ?? [];
    if (token === undefined) return MISSING;
    const found = this.#find(hashOf(token));
    if (found === undefined || token.length < LEAST_CHARACTERS) return UNKNOWN;
    const { expires, accepted, expired } = found;
    return expires === undefined || this.#clock.wallTime() < expires ? accepted : expired;
  };

  /** Compares with every token, each in constant time, so that the time of the answer tells nothing about any of them. */
  #find(sha256: Buffer): KnownToken | undefined {
    let found: KnownToken | undefined;
    for (const tokens of [this.#single, this.#file?.content ?? []])
      for (const each of tokens) if (timingSafeEqual(each.sha256, sha256)) found = each;
    return found;
  }
}

function known(token: NamedToken): KnownToken {
  const { name, expires } = token;
  const time = expires === undefined ? '' : new Date(expires).toISOString();
  return {
    ...token,
    accepted: { caller: Object.freeze({ name, verifiedBy: 'token' }) },
    expired: { refused: `the token of ${name} has expired (${time}): send a new one` },
  };
}
