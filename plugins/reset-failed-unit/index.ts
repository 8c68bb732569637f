import { object } from 'yup';
import { defineAction, machinesOfChange, runnableUnit, unitChanges, UnitControl } from '../../src/plugin.js';

export default defineAction({
  name: 'reset_failed_unit',
  summary: 'Forgets that a unit has failed, and its count of starts.',
  target: 'cluster',
  effect: 'change',
  // The port makes it once, and says what came of an earlier delivery.
  redelivery: 'run-again',
  parameters: object({
    unit_name: runnableUnit().required().meta({ description: 'The unit; not a template.' }),
    machine_ids: machinesOfChange(),
  }),
  result: unitChanges(),
  inject: { units: UnitControl },

  async handle(request, { units }) {
    const { unit_name: unit, machine_ids: machines } = request.parameters;
    return { unit, changes: await units.change(request, { unit, verb: 'reset-failed', machines }) };
  },
});
