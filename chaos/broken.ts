import type { Replacement } from './support/built-service.js';

/** A build in which a guarantee is broken on purpose. */
export interface Broken {
  /** The scenario that must notice it. */
  scenario: string;
  what: string;
  /** Texts in what it then says that it has missed; without them, any miss will do. */
  misses?: readonly string[];
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

const LOST: Omit<Broken, 'scenario' | 'misses'> = {
  what: 'a request that was delivered again counts at once as one that ends its workers',
  replacements: [
    {
      file: 'src/rpc/rpc-handler.ts',
      from: `if (lostWorkersOf(delivery) < MAX_LOST_WORKERS) return { passedOn: 'suspect', mustRunAlone: alone };`,
      to: `if (lostWorkersOf(delivery) < 0) return { passedOn: 'suspect', mustRunAlone: alone };`,
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
        from: 'const memory = this.#budget.take(delivery.content.length);',
        to: 'const memory = this.#budget.take(delivery.content.length);\n    delivery.acknowledge();',
      },
    ],
  },
  { scenario: 'kills', ...AGAIN },
  {
    scenario: 'kills',
    ...LOST,
    misses: ['chaos_read became worker_lost', 'chaos_change became worker_lost'],
  },
  { scenario: 'broker', ...AGAIN },
  { scenario: 'broker', ...LOST, misses: ['became worker_lost'] },
  { scenario: 'two-workers', ...AGAIN },
  {
    scenario: 'two-workers',
    ...LOST,
    misses: ['without claims: ', 'became worker_lost', 'contradict each other'],
  },
  {
    scenario: 'two-workers',
    what: 'a worker says of a change that another one has made that its outcome is unknown',
    misses: ['with claims: ', 'contradict each other'],
    replacements: [
      {
        file: 'src/core/change-gate.ts',
        from: `if (claimed.state === 'settled') return settledBefore(claimed);\n    const { claim }`,
        to: `if (claimed.state === 'settled') return settledWith(outcomeNotReported('it'), call.id);\n    const { claim }`,
      },
    ],
  },
  {
    scenario: 'two-workers',
    what: 'a change is made again for another message with its idempotency key',
    misses: ['with claims: ', 'changes were done twice'],
    replacements: [
      {
        file: 'src/claims/claim-store.ts',
        from: 'key: claimKey(change.named?.key ?? change.key ?? randomUUID()),',
        to: 'key: claimKey(change.key ?? randomUUID()),',
      },
    ],
  },
  {
    scenario: 'two-workers',
    what: 'a worker changes a unit that another one has locked',
    misses: ['with claims: ', 'changes began while another one of their unit ran'],
    replacements: [
      {
        file: 'src/claims/held-claim.ts',
        from: 'if (succeeded || lock?.value === value) return true;',
        to: 'if (succeeded || lock !== undefined) return true;',
      },
    ],
  },
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
    scenario: 'sigterm',
    what: 'a request that has not begun is told that it was cancelled',
    misses: ['became cancelled'],
    replacements: [
      {
        file: 'src/core/runner.ts',
        from: 'for (const job of this.#waiting) this.#interrupt(job, shutdown);',
        to: 'for (const job of this.#waiting) this.#stop(job, shuttingDown());',
      },
    ],
  },
  {
    scenario: 'malformed',
    what: 'a message is dead-lettered without the reason',
    replacements: [
      {
        file: 'src/rpc/suspect.ts',
        from: '[REASON]: reason,',
        to: 'void: reason,',
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
    scenario: 'poison',
    what: 'the parameters of a repeated request are checked in the worker itself',
    misses: ['check: it ended'],
    replacements: [
      {
        file: 'src/core/runner.ts',
        from: `if (isolation !== undefined && delivery === 'repeated')`,
        to: `if (isolation !== undefined && call.id === '')`,
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
