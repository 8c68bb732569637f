import type { AccessDecision, AccessPolicy, AccessQuestion } from '../core/access-policy.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { Policy } from './policy.js';
import { readPolicy } from './read-policy.js';
import { WatchedFile } from '../lib/watched-file.js';

export interface ReloadablePolicyOptions {
  /** The path of the policy file. */
  file: string;
  clock: Clock;
  log: Logger;
}

/**
 * The policy of a file that may change while the service runs. Each decision is that of one policy: the one that was read last. One
 * that cannot be used is logged, and the one before it stays.
 */
export class ReloadablePolicy implements AccessPolicy {
  readonly #file: WatchedFile<Policy>;

  /** @throws Error that says why the file cannot be used */
  constructor({ file, clock, log }: ReloadablePolicyOptions) {
    this.#file = new WatchedFile({
      path: file,
      parse: (text) => new Policy(readPolicy(text)),
      phrases: { reloaded: 'policy reloaded', refused: 'policy refused' },
      clock,
      log,
    });
  }

  get ruleCount(): number {
    return this.#file.content.ruleCount;
  }

  decide(question: AccessQuestion): AccessDecision {
    return this.#file.content.decide(question);
  }

  /** Looks every few seconds whether the file has changed, until `stop`. */
  start(): void {
    this.#file.start();
  }

  stop(): void {
    this.#file.stop();
  }

  /** Reads the file now. */
  async reload(): Promise<void> {
    this.#file.reload();
  }
}
