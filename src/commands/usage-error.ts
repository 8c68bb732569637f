/** A command with wrong arguments; the message says what is wrong and how to correct it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
