import { HttpTokens, type HttpTokensOptions } from '../../src/access/http-tokens.js';
import { systemClock } from '../../src/lib/clock.js';
import { logLines } from '../support/log-lines.js';

/** The tokens of a gateway, whose file is not watched. */
export function httpTokens(options: Partial<HttpTokensOptions>): HttpTokens {
  return new HttpTokens({
    token: undefined,
    file: undefined,
    clock: systemClock,
    log: logLines().log,
    ...options,
  });
}
