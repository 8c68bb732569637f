import { array, boolean, object, string } from 'yup';
import {
  ActionError,
  defineAction,
  machinesOfChange,
  settleSeconds,
  unitChanges,
  UnitControl,
  unitName,
  type UnitText,
  waitSeconds,
} from '../../src/plugin.js';

/** The longest text of a unit file, in characters: it travels in one command. */
const MOST_CHARACTERS = 48 * 1024;
const MOST_FILES = 20;

const text = () =>
  string()
    .min(1)
    .max(MOST_CHARACTERS)
    .matches(/^[^\0]*$/, '${path} must not contain a NUL character');

export default defineAction({
  name: 'put_unit',
  summary:
    'Writes files of units, after a check, and returns to the old ones when a unit does not run with its new one.',
  target: 'cluster',
  effect: 'change',
  // The port makes it once, and says what came of an earlier delivery.
  redelivery: 'run-again',
  parameters: object({
    unit_name: unitName().optional().meta({ description: 'The unit; or name several in units.' }),
    text: text().optional().meta({ description: 'The text of its file.' }),
    units: array(
      object({
        unit_name: unitName().required().meta({ description: 'The unit.' }),
        text: text().required().meta({ description: 'The text of its file.' }),
      }),
    )
      .min(1)
      .max(MOST_FILES)
      .optional()
      .meta({ description: 'Several units, whose files systemd reads together, once.' }),
    machine_ids: machinesOfChange(),
    activate: string()
      .oneOf(['none', 'restart', 'start'] as const)
      .default('restart')
      .meta({ description: 'restart: active units are restarted; start: the others are started too; none.' }),
    dry_run: boolean().default(false).meta({ description: 'Only checks, and shows the difference.' }),
    settle_seconds: settleSeconds('How long a unit must stay active with its new file, in seconds.'),
    wait_seconds: waitSeconds(),
  }),
  result: unitChanges({
    replaced: string()
      .nullable()
      .defined()
      .meta({ description: 'The text that was there; null: there was no file.' }),
    diff: string().nullable().defined().meta({
      description: 'The difference, in the unified format, cut after 16 KiB; null: the text is the same.',
    }),
    warnings: array(string().required()).required().meta({
      description: 'What systemd, or a check of what fleet keeps, says of the new file, and yet accepts.',
    }),
    unit: string().required().meta({ description: 'The unit of this file.' }),
  }),
  inject: { units: UnitControl },

  async handle(request, { units }) {
    const { parameters } = request;
    const files = filesIn(parameters);
    const changes = await units.put(request, {
      files,
      machines: parameters.machine_ids,
      activate: parameters.activate,
      dryRun: parameters.dry_run,
      settleMs: parameters.settle_seconds * 1_000,
      timeoutMs: parameters.wait_seconds * 1_000,
    });
    return { unit: files.map(({ unit }) => unit).join(', '), changes };
  },
});

/** @throws ActionError */
function filesIn({
  unit_name: unit,
  text: one,
  units = [],
}: {
  unit_name?: string | undefined;
  text?: string | undefined;
  units?: { unit_name: string; text: string }[] | undefined;
}): UnitText[] {
  const files = units.map((each) => ({ unit: each.unit_name, text: each.text }));
  if (unit !== undefined && one !== undefined && files.length === 0) return [{ unit, text: one }];
  const names = new Set(files.map((each) => each.unit));
  if (unit === undefined && one === undefined && files.length > 0 && names.size === files.length)
    return files;
  throw new ActionError(
    'invalid_parameters',
    'Nothing was changed: give unit_name and text, or units, each of another name',
    { details: { fields: [{ field: 'unit_name', message: 'give unit_name and text, or units' }] } },
  );
}
