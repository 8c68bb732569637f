import { array, number, object, type ObjectShape, string } from 'yup';
import { isTemplateName, machineId, unitName } from './grammar.js';

/** The most machines that a change can name. */
const MOST_MACHINES = 1_000;

/** The name of a unit that runs: no template. */
export const runnableUnit = () =>
  unitName().test(
    'no-template',
    '${path} is a template: only its instances run, such as web@1.service',
    (value) => value === undefined || value === null || !isTemplateName(value),
  );

/** The machines of a change; by default all that have the unit. */
export const machinesOfChange = () =>
  array(machineId().required())
    .min(1)
    .max(MOST_MACHINES)
    .optional()
    .meta({ description: 'The ids of the machines; by default all that have the unit.' });

/** The time limit of a change: its `wait_seconds`; by default 60. */
export const waitSeconds = (
  description = 'The time limit on each machine, in seconds.',
  { seconds = 60 }: { seconds?: number } = {},
) => number().integer().min(1).max(240).default(seconds).meta({ description });

/** How long a unit must stay active after its start: the `settle_seconds` of a change; by default 2. */
export const settleSeconds = (description: string, { seconds = 2 }: { seconds?: number } = {}) =>
  number().integer().min(0).max(120).default(seconds).meta({ description });

/** A `UnitCondition`, or null. */
export const unitCondition = () =>
  object({
    load: string()
      .nullable()
      .defined()
      .meta({ description: 'loaded, not-found, masked, bad-setting or error.' }),
    active: string().nullable().defined().meta({ description: 'active, inactive, failed, activating, ...' }),
    sub: string().nullable().defined().meta({ description: 'running, dead, exited, auto-restart, ...' }),
    result: string().nullable().defined().meta({ description: 'How it ended last: success, exit-code, ...' }),
    invocation_id: string().nullable().defined().meta({ description: 'Another one for each start.' }),
    main_pid: number().nullable().defined().meta({ description: 'The main process.' }),
    restarts: number()
      .nullable()
      .defined()
      .meta({ description: 'How often systemd has restarted it by itself.' }),
    enabled: string().nullable().defined().meta({ description: 'enabled, disabled, static, ... (systemd).' }),
    desired: string().nullable().defined().meta({ description: 'inactive, loaded or launched (fleet).' }),
  })
    .nullable()
    .defined();

/**
 * The result of a change: `{ unit, changes }`, with a `UnitChange` for each machine.
 * @param more what each of them has besides
 */
export const unitChanges = <More extends ObjectShape = Record<never, never>>(more = {} as More) =>
  object({
    unit: string().required().meta({ description: 'The unit.' }),
    changes: array(
      object({
        machine_id: string()
          .nullable()
          .defined()
          .meta({ description: 'The machine; null: the unit is on none.' }),
        host: string().nullable().defined().meta({ description: 'Its address, where it was asked itself.' }),
        did: string().required().meta({
          description: 'What was done: started, restarted, ...; nothing: it was so before; unknown.',
        }),
        before: unitCondition().meta({ description: 'What it was before.' }),
        after: unitCondition().meta({ description: 'What it is now, some seconds after a start.' }),
        took_ms: number().required().meta({ description: 'How long it took.' }),
        error: object({
          code: string().required().meta({ description: 'The code.' }),
          message: string().required().meta({ description: 'For people.' }),
        })
          .nullable()
          .defined()
          .meta({ description: 'Why it is not as asked; null: it is.' }),
        ...more,
      }),
    )
      .required()
      .meta({ description: 'What was done on each machine.' }),
  });
