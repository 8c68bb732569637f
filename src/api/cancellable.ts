/** The options of every asynchronous call. */
export interface Cancellable {
  /** Aborting it rejects the promise and stops the work. */
  signal: AbortSignal;
}
