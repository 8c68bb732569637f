/** What kind of server is called. */
export type UpstreamKind = 'discovery' | 'fleet' | 'ssh' | 'manager' | 'claims';

/** A call to another server, in progress. */
export interface UpstreamCall {
  /** Headers that continue the caller's trace there; undefined: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * @param error why it failed; undefined: it did not
   * @param wasStopped whether it was ended here before it had a result, such as when its caller waits no longer
   */
  end(error?: unknown, wasStopped?: boolean): void;
}

/**
 * Is told of each call to another server when it begins.
 * @param operation what is done, such as `GET units/{name}`: one of a few texts, with nothing in it from a caller
 * @param host where it goes
 */
export type WatchUpstream = (kind: UpstreamKind, operation: string, host: string) => UpstreamCall;

/** Tells all of these, those that there are, of each call. The headers are those of the first one that has any. */
export function watchedByAll(...watchers: readonly (WatchUpstream | undefined)[]): WatchUpstream | undefined {
  const all = watchers.filter((each) => each !== undefined);
  if (all.length < 2) return all[0];
  return (kind, operation, host) => {
    const calls = all.map((begin) => begin(kind, operation, host));
    return {
      headers: calls.find(({ headers }) => headers !== undefined)?.headers,
      end: (error, wasStopped) => calls.forEach((call) => call.end(error, wasStopped)),
    };
  };
}
