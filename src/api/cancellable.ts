/** What every call that takes time is given. */
export interface Cancellable {
  /** Ends the call: the promise rejects, and the work behind it stops. */
  signal: AbortSignal;
}
