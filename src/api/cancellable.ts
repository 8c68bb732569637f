/** What every call that takes time accepts. */
export interface Cancellable {
  /** Ends the call: the promise rejects, and the work stops. */
  signal: AbortSignal;
}
