const BRAND = Symbol.for('fleet-manager:ActionError');

/**
 * A failure that is reported to the caller. The message is for people, the code is for programs.
 * The code is `snake_case`: one of `ERROR_CODES`, or a code that the action defines.
 */
export class ActionError extends Error {
  override readonly name = 'ActionError';
  readonly code: string;
  /** Machine-readable facts for the caller, plain JSON; never secrets. */
  readonly details?: unknown;

  constructor(code: string, message: string, options: { details?: unknown; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    if (!/^[a-z][a-z0-9_]{0,63}$/.test(code))
      throw new TypeError(`an error code must be snake_case, not '${code}'`);
    this.code = code;
    if (options.details !== undefined) this.details = options.details;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Also true for an ActionError of another copy of this package, such as the copy of a plugin. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && BRAND in value;
  }
}
