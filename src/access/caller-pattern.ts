import { ANONYMOUS, type Caller, MANAGER, type Voucher } from '../api/caller.js';
import { globMatcher } from '../api/grammar.js';

const VOUCHED = /^(broker|token|manager|service):(.+)$/s;

/**
 * Compiles a pattern of callers. `anonymous` and `manager` stand for callers whose own names nobody knows, so that no other pattern
 * matches these, and they match no user of the broker with such a name. `VOUCHER:NAME` matches names that this voucher has verified,
 * any other pattern those of `broker`, `token` and `service`.
 */
export function callerMatcher(pattern: string): (caller: Caller) => boolean {
  if (pattern === ANONYMOUS.name) return ({ verifiedBy }) => verifiedBy === undefined;
  if (pattern === MANAGER.name) return ({ verifiedBy }) => verifiedBy === MANAGER.verifiedBy;
  const [, voucher, named] = VOUCHED.exec(pattern) ?? [];
  const isNamed = globMatcher(named ?? pattern);
  return voucher === undefined
    ? ({ name, verifiedBy }) => isOwnName(verifiedBy) && isNamed(name)
    : ({ name, verifiedBy }) => verifiedBy === voucher && isNamed(name);
}

function isOwnName(verifiedBy: Voucher | undefined): boolean {
  return verifiedBy !== undefined && verifiedBy !== MANAGER.verifiedBy;
}

/** A caller as a rule for it alone would write it. */
export function callerPattern({ name, verifiedBy }: Caller): string {
  if (verifiedBy === undefined) return ANONYMOUS.name;
  return verifiedBy === MANAGER.verifiedBy ? MANAGER.name : `${verifiedBy}:${name}`;
}
