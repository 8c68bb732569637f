import { ActionError } from '../../api/action-error.js';
import { HttpFailure } from '../../network/bounded-call.js';
import { UnusableResponse } from './fleet-answer.js';

interface HostFailure {
  host: string;
  reason: string;
  kind: 'unreachable' | 'forbidden' | UnusableResponse['kind'];
}

/** Why the hosts that got a call have no usable response, and which of them may have made a change. */
export class HostFailures {
  readonly #failures: HostFailure[] = [];
  readonly #changed: string[] = [];
  readonly #mayChangeLater: string[] = [];
  #forbidden: unknown;

  /**
   * @returns the reason
   * @throws an error that does not come from the host, the network or the signal
   */
  add(host: URL, error: unknown, signal?: AbortSignal): string {
    const failure = { host: host.host, ...this.#read(error, signal) };
    this.#failures.push(failure);
    return failure.reason;
  }

  /** @param later whether the host may still make the change: one that is frozen keeps what it has received */
  mayHaveChanged({ host }: URL, { later }: { later: boolean }): void {
    this.#changed.push(host);
    if (later) this.#mayChangeLater.push(host);
  }

  get mayBeDone(): boolean {
    return this.#changed.length > 0;
  }

  outcomeUnknown(): ActionError {
    const unsure = this.#failures.filter(({ host }) => this.#changed.includes(host));
    return new ActionError(
      'outcome_unknown',
      `The cluster's fleet API did not confirm the change (${sentenceOf(unsure)})`,
      { details: { hosts: this.#shown(), mayChangeLater: this.#mayChangeLater } },
    );
  }

  noUsableResponse(): unknown {
    const failures = this.#failures;
    const kinds = new Set(failures.map(({ kind }) => kind));
    if (this.#forbidden !== undefined && kinds.size === 1) return this.#forbidden;
    const [code, what] = kinds.has('failed')
      ? ['cluster_unhealthy', "The cluster's fleet API reports an internal failure"]
      : kinds.has('unreachable')
        ? ['cluster_unreachable', 'No fleet API of the cluster can be reached']
        : ['cluster_answer_invalid', 'No host of the cluster answers as fleet does'];
    return new ActionError(code, `${what} (${sentenceOf(failures)})`, {
      details: { hosts: this.#shown() },
    });
  }

  #shown(): { host: string; reason: string }[] {
    return this.#failures.slice(0, 20).map(({ host, reason }) => ({ host, reason }));
  }

  #read(error: unknown, signal?: AbortSignal): Omit<HostFailure, 'host'> {
    if (error instanceof UnusableResponse) return { reason: error.message, kind: error.kind };
    if (error instanceof HttpFailure)
      return { reason: error.message, kind: error.tooLarge ? 'invalid' : 'unreachable' };
    if (signal?.aborted === true && error === signal.reason)
      return { reason: 'the call was aborted', kind: 'unreachable' };
    if (!isForbidden(error)) throw error;
    this.#forbidden = error;
    return { reason: 'forbidden', kind: 'forbidden' };
  }
}

function sentenceOf(failures: readonly HostFailure[]): string {
  const shown = failures.slice(0, 5).map(({ host, reason }) => `${host}: ${reason}`);
  const more = failures.length > shown.length ? `, and ${failures.length - shown.length} more` : '';
  return `${shown.join(', ')}${more}`;
}

/** Whether it is certain that the host did not receive the request. */
export function hostGotNothing(error: unknown): boolean {
  return isForbidden(error) || (error instanceof HttpFailure && error.notSent);
}

function isForbidden(error: unknown): boolean {
  return error instanceof ActionError && error.code === 'forbidden';
}
