/** A command that was called wrongly; the message says what is wrong and how to correct it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
