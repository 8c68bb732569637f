import { inspect } from 'node:util';

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

/** Any value as text; of an error its stack, with those of its causes. Never throws. */
export function shown(value: unknown): string {
  try {
    return value instanceof Error ? stackOf(value) : inspect(value);
  } catch {
    return UNREADABLE_TEXT;
  }
}

/** The stack of an error and of its causes. The depth is limited, because an error may be its own cause. */
export function stackOf(error: Error, depth = 0): string {
  const causes: unknown[] = error instanceof AggregateError ? error.errors : [error.cause];
  const included = depth === 3 ? [] : causes.filter((each) => each !== undefined).slice(0, 5);
  const stacks = included.map((each) => (each instanceof Error ? stackOf(each, depth + 1) : inspect(each)));
  return [error.stack ?? error.message, ...stacks].join('\ncaused by: ');
}
