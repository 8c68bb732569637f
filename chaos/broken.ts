import type { Replacement } from './support/built-service.js';

/** A build in which a guarantee is broken on purpose. */
export interface Broken {
  /** The scenario that must notice it. */
  scenario: string;
  what: string;
  replacements: readonly Replacement[];
}

const AGAIN: Omit<Broken, 'scenario'> = {
  what: 'a change that another worker may have begun runs as if it were new',
  replacements: [
    {
      file: 'src/rpc/request.ts',
      from: `delivery: mayHaveBegun ? 'repeated' : 'first',`,
      to: `delivery: 'first',`,
    },
  ],
};

export const BROKEN: readonly Broken[] = [
  {
    scenario: 'kills',
    what: 'a request is acknowledged as soon as it arrives',
    replacements: [
      {
        file: 'src/rpc/rpc-handler.ts',
        from: 'const work = this.#handle(delivery)',
        to: 'delivery.acknowledge();\n    const work = this.#handle(delivery)',
      },
    ],
  },
  { scenario: 'kills', ...AGAIN },
  { scenario: 'broker', ...AGAIN },
  { scenario: 'two-workers', ...AGAIN },
  {
    scenario: 'sigterm',
    what: 'a request that has not begun is acknowledged instead of requeued',
    replacements: [
      {
        file: 'src/rpc/republisher.ts',
        from: 'const heldMs = () => Math.round(clock.now() - arrivedAt);',
        to: 'const heldMs = () => Math.round(clock.now() - arrivedAt);\n    return delivery.acknowledge();',
      },
    ],
  },
  {
    scenario: 'malformed',
    what: 'a message is dead-lettered without the reason',
    replacements: [
      {
        file: 'src/rpc/republisher.ts',
        from: `const headers = { 'x-reason': reason };`,
        to: 'const headers = { void: reason };',
      },
    ],
  },
  {
    scenario: 'hung-clusters',
    what: 'a cluster may hold only a few requests, also one that responds',
    replacements: [
      {
        file: 'src/core/admission.ts',
        from: 'const SHARE_OF_ONE_LANE = 0.75;',
        to: 'const SHARE_OF_ONE_LANE = 0.02;',
      },
    ],
  },
  {
    scenario: 'clock',
    what: 'durations are measured by the wall clock',
    replacements: [
      {
        file: 'src/lib/clock.ts',
        from: 'now: () => Math.floor(performance.now()),',
        to: 'now: () => Date.now(),',
      },
    ],
  },
  {
    scenario: 'queue',
    what: 'a message that a full queue refuses is forgotten',
    replacements: [
      {
        file: 'src/rpc/republisher.ts',
        from: `while (outcome === 'nacked')`,
        to: `while (outcome !== 'routed' && outcome !== 'nacked')`,
      },
    ],
  },
  {
    scenario: 'million',
    what: 'timers that are cancelled stay',
    replacements: [
      {
        file: 'src/lib/clock.ts',
        from: 'return () => clearTimeout(timer);',
        to: 'return () => void timer;',
      },
    ],
  },
  {
    scenario: 'poison',
    what: 'a repeated request runs in the worker itself',
    replacements: [
      {
        file: 'src/core/execution.ts',
        from: 'if (isolation === undefined) {',
        to: "if (isolation === undefined || this.#call.id !== '') {",
      },
    ],
  },
  {
    scenario: 'poison-at-load',
    what: 'a process that is blocked is killed without a word',
    replacements: [
      {
        file: 'src/watchdog/watchdog-thread.ts',
        from: 'void report().finally(endProcess);',
        to: 'endProcess();',
      },
    ],
  },
  {
    scenario: 'poison-at-load',
    what: 'an exit by a plugin counts as a success',
    replacements: [
      {
        file: 'src/watchdog/exit-report.ts',
        from: 'if (code === 0) process.exitCode = 1;',
        to: 'void code;',
      },
    ],
  },
];
