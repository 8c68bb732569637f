import type { ExecutionContext } from 'ava';
import type { ClusterState } from '../../src/sandbox/cluster.js';
import type { UnitEvent } from '../../src/sandbox/unit-history.js';
import { codeOf, UNIT } from './restart-world.js';

/** What a restart said, what really happened to the unit from its begin on, and how it is left. */
export interface Outcome {
  code: string;
  text: string;
  tookMs: number;
  happened: UnitEvent[];
  desiredState: string | null;
  /** The machine that it is scheduled to. */
  machine: string | null;
}

/** @param begin when the restart began */
export async function outcomeOf(
  running: Promise<unknown>,
  cluster: ClusterState,
  clock: { now(): number },
  begin = clock.now(),
): Promise<Outcome> {
  const [code, text] = await running.then(
    (result) => ['done', String(result)] as const,
    (error: unknown) => [codeOf(error), error instanceof Error ? error.message : ''] as const,
  );
  const unit = cluster.unit(UNIT);
  return {
    code,
    text,
    tookMs: clock.now() - begin,
    happened: cluster.history(UNIT).filter(({ at }) => at >= begin),
    desiredState: typeof unit === 'object' ? unit.desiredState : null,
    machine: typeof unit === 'object' ? unit.machineID : null,
  };
}

/** Such as `stopped on a, started on a`. */
export function inWords(happened: readonly UnitEvent[]): string {
  return happened.map(({ what, machineID }) => `${what} on ${machineID[0]}`).join(', ');
}

export const RESTARTED = 'stopped on a, started on a';

/** Asserts that the claim fits what happened, and that the unit is not left stopped without a word. */
export function isTrue(
  t: ExecutionContext,
  { code, text, happened, desiredState }: Outcome,
  situation = '',
): void {
  const truth = inWords(happened);
  const facts = `${situation}: ${code}, ${text}; in truth: ${truth}`;
  const fits: Record<string, boolean> = {
    // Fleet itself may stop and start it once more, when its machine was not listed for a while.
    done: text.includes('was restarted')
      ? /^stopped on a, started on [ab]/.test(truth)
      : truth.includes('started on'),
    unit_did_not_stop: truth === '',
    cluster_incomplete: truth === '',
    outcome_unknown: true,
    unit_not_started: text.includes('is not shown as active') || text.includes('fleet has found no machine'),
    // Fleet has given up the machine of the unit.
    unit_not_scheduled: text.includes('fleet has found no machine for it yet'),
  };
  t.true(fits[code], facts);
  if (text.includes('was stopped')) t.true(truth.includes('stopped on'), facts);
  t.true(desiredState === 'launched' || /NOW (BE )?STOPPED/.test(text), facts);
}
