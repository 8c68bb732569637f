/** A command that was called wrongly; the message says what and how to mend it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
