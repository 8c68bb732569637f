import { object } from 'yup';
import { defineAction, runnableUnit, unitChanges, UnitControl, waitSeconds } from '../../src/plugin.js';

export default defineAction({
  name: 'load_unit',
  summary: 'Has fleet choose a machine for a unit, without starting it.',
  target: 'cluster',
  effect: 'change',
  // The port makes it once, and says what came of an earlier delivery.
  redelivery: 'run-again',
  parameters: object({
    unit_name: runnableUnit().required().meta({ description: 'The unit; not a template.' }),
    wait_seconds: waitSeconds(),
  }),
  result: unitChanges(),
  inject: { units: UnitControl },

  async handle(request, { units }) {
    const { unit_name: unit, wait_seconds: wait } = request.parameters;
    return { unit, changes: await units.change(request, { unit, verb: 'load', timeoutMs: wait * 1_000 }) };
  },
});
