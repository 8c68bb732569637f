import type { ActionRequest } from '../../src/plugin.js';
import type { Cluster } from '../../src/api/cluster.js';
import { ANONYMOUS } from '../../src/api/caller.js';
import { logLines } from './log-lines.js';

/** The argument of `handle`, for tests that call it directly: an anonymous caller, no time limit. */
export function actionRequest<C extends Cluster | undefined>(
  given: Partial<ActionRequest<unknown, C>> & { cluster: C },
): ActionRequest<unknown, C> {
  return {
    parameters: {},
    settings: {},
    signal: new AbortController().signal,
    drain: { signal: new AbortController().signal, reportBy: Number.POSITIVE_INFINITY },
    deadline: Number.POSITIVE_INFINITY,
    log: logLines().log,
    id: 'test',
    key: undefined,
    caller: ANONYMOUS,
    repeated: false,
    warn: () => {},
    authorize: () => true,
    authorizesAll: true,
    emit: () => {},
    ...given,
  };
}
