import type { Replacement } from './support/built-service.js';

/** A build in which a guarantee is broken on purpose. */
export interface Broken {
  /** The scenario that must notice it. */
  scenario: string;
  what: string;
  replacements: readonly Replacement[];
}

export const BROKEN: readonly Broken[] = [
  {
    scenario: 'kills',
    what: 'a request is acknowledged before its reply is confirmed',
    replacements: [
      {
        file: 'src/rpc/rpc-handler.ts',
        from: `    const outcome = await this.#outcome(request);
    if (outcome === 'released')`,
        to: `    delivery.acknowledge();
    const outcome = await this.#outcome(request);
    if (outcome === 'released')`,
      },
    ],
  },
  {
    scenario: 'kills',
    what: 'a change that was delivered before runs again',
    replacements: [
      {
        file: 'src/core/admission.ts',
        from: `call.delivery === 'repeated' && redelivery === 'refuse'`,
        to: `call.delivery === 'repeated' && redelivery === undefined`,
      },
    ],
  },
];
