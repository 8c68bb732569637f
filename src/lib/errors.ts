/** The message of an error; for an AggregateError the messages of its errors, each once. Never throws. */
export function reasonOf(error: unknown): string {
  try {
    if (error instanceof AggregateError) return [...new Set(error.errors.map(reasonOf))].join('; ');
    return String(error instanceof Error ? error.message : error);
  } catch {
    return UNREADABLE_TEXT;
  }
}

/** Stands for a value that throws when it is read, such as a revoked proxy. */
export const UNREADABLE_TEXT = '(a value that cannot be read)';
