import type { UpstreamCall, WatchUpstream } from '../../src/lib/upstream.js';

/** A call to another server, as its watcher was told. */
export interface RecordedCall {
  kind: string;
  operation: string;
  host: string;
  outcome: 'in progress' | 'ok' | 'failed' | 'stopped';
}

/** Keeps the calls of which it is told. @param headers what it adds to each call */
export function recordedUpstream(headers?: UpstreamCall['headers']): {
  watch: WatchUpstream;
  calls: RecordedCall[];
} {
  const calls: RecordedCall[] = [];
  const watch: WatchUpstream = (kind, operation, host) => {
    const call: RecordedCall = { kind, operation, host, outcome: 'in progress' };
    calls.push(call);
    return {
      headers,
      end: (error, wasStopped) => {
        if (call.outcome !== 'in progress') throw new Error('it ended twice');
        call.outcome = wasStopped === true ? 'stopped' : error === undefined ? 'ok' : 'failed';
      },
    };
  };
  return { watch, calls };
}
