/** An invalid command line. The message says what is wrong and how to correct it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Arguments that name no command or do not fit it. The message is what to print. */
export class InvalidCommandLine extends Error {
  override readonly name = 'InvalidCommandLine';
}
