import { ActionError } from '../api/action-error.js';
import type { NestedAuthority, NestedCall, NestedScope } from '../core/nested-authority.js';
import type { FromHandlerProcess, ToHandlerProcess } from './messages.js';

export type Told = Extract<ToHandlerProcess, { type: 'entered' | 'refused' | 'left' }>;

/** Asks the service about the actions that one call calls. */
export class RemoteAuthority implements NestedAuthority {
  readonly #call: number;
  readonly #send: (message: FromHandlerProcess) => void;
  #isClosed = false;
  /** What waits for an answer, by the run. */
  readonly #asked = new Map<number, (answer: Told) => void>();

  constructor(call: number, send: (message: FromHandlerProcess) => void) {
    this.#call = call;
    this.#send = send;
  }

  async enter(nested: NestedCall): Promise<NestedScope> {
    const answer = await this.#ask(nested.run, { type: 'enter', call: this.#call, ...nested });
    if (answer.type === 'entered') return { units: answer.units };
    const thrown = answer.type === 'refused' ? answer.thrown : undefined;
    if (thrown?.kind !== 'reported')
      throw new Error(thrown?.kind === 'unexpected' ? thrown.text : answer.type);
    const { code, errors, details } = thrown.body;
    throw new ActionError(code, errors.join(' '), { details });
  }

  async leave(run: number, outcome: string): Promise<void> {
    await this.#ask(run, { type: 'leave', call: this.#call, run, outcome });
  }

  /** The call has ended, and with it all that it has called: no more answers come. */
  close(): void {
    this.#isClosed = true;
    for (const [run, resolve] of this.#asked) resolve({ type: 'left', call: this.#call, run });
    this.#asked.clear();
  }

  told(answer: Told): void {
    this.#asked.get(answer.run)?.(answer);
    this.#asked.delete(answer.run);
  }

  async #ask(run: number, question: FromHandlerProcess): Promise<Told> {
    if (this.#isClosed) return { type: 'left', call: this.#call, run };
    return new Promise((resolve) => {
      this.#asked.set(run, resolve);
      this.#send(question);
    });
  }
}
