import { object, string } from 'yup';
import {
  ActionError,
  defineAction,
  machinesOfChange,
  unitChanges,
  UnitControl,
  unitName,
  waitSeconds,
} from '../../src/plugin.js';

export default defineAction({
  name: 'destroy_unit',
  summary: 'Stops a unit and removes its file.',
  target: 'cluster',
  effect: 'change',
  // The port makes it once, and says what came of an earlier delivery.
  redelivery: 'run-again',
  parameters: object({
    unit_name: unitName().required().meta({ description: 'The unit.' }),
    confirm: string().required().max(256).meta({ description: 'The name of the unit once more.' }),
    machine_ids: machinesOfChange(),
    wait_seconds: waitSeconds(),
  }),
  result: unitChanges(),
  inject: { units: UnitControl },

  async handle(request, { units }) {
    const { unit_name: unit, confirm, machine_ids: machines, wait_seconds: wait } = request.parameters;
    if (confirm !== unit)
      throw new ActionError(
        'invalid_parameters',
        `${unit} was not removed: confirm must be its name once more, and is ${JSON.stringify(confirm)}`,
        { details: { fields: [{ field: 'confirm', message: 'must be the name of the unit' }] } },
      );
    return { unit, changes: await units.destroy(request, { unit, machines, timeoutMs: wait * 1_000 }) };
  },
});
