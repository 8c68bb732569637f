import { array, boolean, number, object, string } from 'yup';
import {
  ActionError,
  Actions,
  Clock,
  defineAction,
  FleetTransport,
  glob,
  isTemplateName,
  machinesOfChange,
  settleSeconds,
  stringMap,
  unitCondition,
  UnitControl,
  waitSeconds,
} from '../../src/plugin.js';
import { OPERATIONS, planOf } from './plan.js';
import { type End, newResult, runPlan, type TargetResult } from './run.js';
import { selected } from './selection.js';

const MOST_CHARACTERS = 48 * 1024;

export default defineAction({
  name: 'rollout',
  summary: 'Changes many units in batches, each proven before the next, and stops when too many fail.',
  target: 'cluster',
  effect: 'change',
  parameters: object({
    operation: string()
      .oneOf(OPERATIONS)
      .required()
      .meta({ description: 'restart, start, stop, reload, or put: a new file.' }),
    units: glob().optional().meta({ description: 'The units: a name, or a pattern such as web@*.service.' }),
    metadata: stringMap()
      .optional()
      .meta({ description: 'Only on machines that have all of these entries in their metadata.' }),
    machine_ids: machinesOfChange(),
    text: string()
      .min(1)
      .max(MOST_CHARACTERS)
      .optional()
      .meta({ description: 'For put: the text of the file; units is one name then.' }),
    batch: string()
      .matches(
        /^(?:[1-9]\d{0,3}|(?:[1-9]\d?|100)%)$/,
        '${path} must be a number from 1, or a part such as 25%',
      )
      .default('1')
      .meta({ description: 'How many targets at the same time: a number, or a part such as 25%.' }),
    pause_seconds: number()
      .integer()
      .min(0)
      .max(600)
      .default(0)
      .meta({ description: 'The pause between two batches, in seconds.' }),
    settle_seconds: settleSeconds('How long a unit must stay active, by the same start, in seconds.', {
      seconds: 3,
    }),
    wait_seconds: waitSeconds('The time limit of each target, in seconds.'),
    max_failures: number()
      .integer()
      .min(0)
      .default(0)
      .meta({ description: 'How many targets may fail; with one more no further batch begins.' }),
    dry_run: boolean().default(false).meta({ description: 'Answers with the plan, and touches nothing.' }),
    plan_hash: string()
      .matches(/^[0-9a-f]{64}$/, '${path} must be the plan_hash of a dry run')
      .optional()
      .meta({ description: 'Of a dry run: refused when the cluster has changed since.' }),
    confirm_count: number()
      .integer()
      .min(0)
      .optional()
      .meta({ description: 'The number of targets; needed when they are many.' }),
  }),
  settings: object({
    confirmAbove: number()
      .integer()
      .min(0)
      .default(10)
      .meta({ description: 'A rollout with more targets needs `confirm_count`.' }),
  }),
  result: object({
    operation: string().required().meta({ description: 'The operation.' }),
    ended: string()
      .oneOf(['planned', 'completed', 'max_failures', 'deadline', 'cancelled', 'shutdown'] as const)
      .required()
      .meta({ description: 'Why it has ended; planned: a dry run.' }),
    plan_hash: string().required().meta({ description: 'Names the plan, for a rollout after a dry run.' }),
    count: number().required().meta({ description: 'The number of targets to change, as confirm_count.' }),
    batches: number().required().meta({ description: 'The number of batches.' }),
    targets: array(
      object({
        unit: string().required().meta({ description: 'The unit.' }),
        machine_id: string().nullable().defined().meta({ description: 'The machine; null: fleet knows.' }),
        batch: number().required().meta({ description: 'Its batch; 0: nothing is to be done.' }),
        states: array(string().required())
          .required()
          .meta({ description: 'Its states when the plan was made; a global unit may have several.' }),
        file_hash: string().nullable().defined().meta({ description: 'The hash of its file then.' }),
        status: string()
          .oneOf(['planned', 'done', 'unchanged', 'failed', 'not_tried'] as const)
          .required()
          .meta({ description: 'What came of it.' }),
        did: string().nullable().defined().meta({ description: 'What was done, as its action says.' }),
        before: unitCondition().meta({ description: 'What it was before.' }),
        after: unitCondition().meta({ description: 'What it was after.' }),
        took_ms: number().required().meta({ description: 'How long it took.' }),
        error: object({
          code: string().required().meta({ description: 'The code.' }),
          message: string().required().meta({ description: 'For people.' }),
        })
          .nullable()
          .defined()
          .meta({ description: 'Why it has failed.' }),
      }),
    )
      .required()
      .meta({ description: 'In the order in which they are tried.' }),
    left_stopped: array(string().required())
      .required()
      .meta({ description: 'What was running, and is not seen to be any more.' }),
  }),
  inject: { actions: Actions, fleet: FleetTransport, units: UnitControl, clock: Clock },

  async handle(request, { actions, fleet, units, clock }) {
    const { parameters, cluster, signal, drain, deadline, settings, authorize, warn } = request;
    const { operation, text, batch } = parameters;
    requireText(parameters);
    const targets = await selected(parameters, { cluster, signal }, { fleet, units }).catch(
      (error: unknown) => {
        throw error === signal.reason ? untouched(error) : error;
      },
    );
    const denied = [...new Set(targets.map(({ unit }) => unit))].filter((unit) => !authorize(unit));
    if (denied.length > 0)
      throw new ActionError(
        'forbidden',
        `Nothing was changed: the policy does not allow this caller to change ${denied.slice(0, 5).join(', ')}. Select only what it allows`,
      );
    const plan = planOf(operation, targets, batch, text);
    const count = plan.targets.filter((target) => target.batch > 0).length;
    const result = (ended: End | 'planned', each: TargetResult[], leftStopped: string[]) => ({
      operation,
      ended,
      plan_hash: plan.hash,
      count,
      batches: plan.batches,
      targets: each,
      left_stopped: leftStopped,
    });
    const planned = () =>
      result(
        'planned',
        plan.targets.map((each) => newResult(each, each.batch === 0 ? 'unchanged' : 'planned')),
        [],
      );
    if (parameters.dry_run) {
      const { settle_seconds: settle, pause_seconds: pause } = parameters;
      const leastMs = (plan.batches * (settle + pause) - pause) * 1_000;
      if (leastMs > deadline - clock.now())
        warn(
          `This rollout takes at least ${leastMs / 1_000} s, more than such a request has: it would end in the middle, with 'deadline'. Select less, or larger batches`,
        );
      return planned();
    }
    if (parameters.plan_hash !== undefined && parameters.plan_hash !== plan.hash) throw stale(planned());
    requireCount(parameters, count, settings.confirmAbove);
    const told = new Set<string>();
    const options = {
      operation,
      text,
      pauseMs: parameters.pause_seconds * 1_000,
      settleMs: parameters.settle_seconds * 1_000,
      waitMs: parameters.wait_seconds * 1_000,
      maxFailures: parameters.max_failures,
      namesMachines: units.kindOf(cluster) === 'systemd',
      warn: (sentence: string) => {
        if (!told.has(sentence)) warn(sentence);
        told.add(sentence);
      },
    };
    const run = await runPlan(plan, { cluster, signal, drain, deadline }, options, { actions, fleet, clock });
    const answer = result(run.end, run.targets, run.leftStopped);
    const failed = run.targets.filter(({ status }) => status === 'failed');
    if (run.end !== 'completed') throw stopped(answer, failed.length);
    if (failed.length > 0)
      warn(`${failed.length} of ${count} targets failed, as max_failures allows: see targets`);
    return answer;
  },
});

/** The error of a rollout that was stopped before it began. */
function untouched(reason: unknown): ActionError {
  const { code, message } =
    reason instanceof ActionError ? reason : { code: 'cancelled', message: String(reason) };
  return new ActionError(code, `Nothing was changed: ${message}`, { cause: reason });
}

function requireText({
  operation,
  text,
  units,
}: {
  operation: string;
  text?: string | undefined;
  units?: string | undefined;
}): void {
  const isPut = operation === 'put';
  if (
    isPut === (text !== undefined) &&
    !(isPut && (units === undefined || /[*?]/.test(units) || isTemplateName(units)))
  )
    return;
  throw new ActionError(
    'invalid_parameters',
    'Nothing was changed: the operation put needs text, and units with one name; the others take no text',
    { details: { fields: [{ field: 'text', message: 'is for put, with one unit' }] } },
  );
}

/**
 * The service does not keep the plan of the dry run, and the caller has it: with the plan of now, of the same form, whoever compares the
 * two sees what has changed. The hash covers nothing that the targets do not show.
 * @param plan as a dry run answers now
 */
function stale(plan: { plan_hash: string }): ActionError {
  return new ActionError(
    'stale_plan',
    'Nothing was changed: the plan is not the one of the dry run, as units, their states or their files have changed since, or the parameters differ. details.plan is what a dry run answers now: compare its targets with those of yours',
    { details: { plan_hash: plan.plan_hash, plan } },
  );
}

function requireCount(
  { confirm_count: given }: { confirm_count?: number | undefined },
  count: number,
  threshold: number,
): void {
  if (given === count || (given === undefined && count <= threshold)) return;
  throw new ActionError(
    'confirmation_needed',
    given === undefined
      ? `Nothing was changed: ${count} targets are selected, and more than ${threshold} need confirm_count: ${count}`
      : `Nothing was changed: ${count} targets are selected, and confirm_count is ${given}`,
    { details: { count } },
  );
}

function stopped(
  answer: { ended: string; targets: readonly TargetResult[]; left_stopped: readonly string[] },
  failures: number,
): ActionError {
  const done = answer.targets.filter(({ status }) => status === 'done').length;
  const left = answer.targets.filter(({ status }) => status === 'not_tried').length;
  const [first] = answer.targets.flatMap(({ error }) => error?.message ?? []);
  const down = answer.left_stopped.length === 0 ? '' : `; left stopped: ${answer.left_stopped.join(', ')}`;
  return new ActionError(
    'rollout_stopped',
    `The rollout ended early (${answer.ended}): ${done} done, ${failures} failed, ${left} not tried${down}${first === undefined ? '' : `. The first failure: ${first}`}`,
    { details: answer },
  );
}
