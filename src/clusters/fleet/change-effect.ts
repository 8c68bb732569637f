import { UnusableResponse } from './fleet-answer.js';
import { hostGotNothing } from './host-failures.js';

/**
 * What a host that did not confirm a change has done with it:
 * - `none`: nothing, and it does nothing later
 * - `claimed`: another program reports success; fleet may have made the change, or may make it later
 * - `perhaps`: fleet answered with a failure: it may have made the change, but does nothing later
 * - `perhaps-later`: fleet may have made the change, or may make it later: one that is frozen keeps what it has received
 */
export type ChangeEffect = 'none' | 'claimed' | 'perhaps' | 'perhaps-later';

/**
 * The 4xx with which a proxy refuses a request before it forwards it. With others, such as 408, it may report that fleet
 * has not answered in time.
 */
const REFUSED_BY_PROXY: ReadonlySet<number> = new Set([400, 401, 403, 404, 405, 429]);

/** @param status of the response; undefined when there was none */
export function effectOf(error: unknown, status: number | undefined): ChangeEffect {
  if (hostGotNothing(error)) return 'none';
  if (status === undefined || !(error instanceof UnusableResponse)) return 'perhaps-later';
  if (error.fromFleet) return 'perhaps';
  if (status < 300) return 'claimed';
  return status < 400 || REFUSED_BY_PROXY.has(status) ? 'none' : 'perhaps-later';
}
