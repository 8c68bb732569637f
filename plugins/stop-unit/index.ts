import { object } from 'yup';
import {
  defineAction,
  machinesOfChange,
  runnableUnit,
  unitChanges,
  UnitControl,
  waitSeconds,
} from '../../src/plugin.js';

export default defineAction({
  name: 'stop_unit',
  summary: 'Stops a unit, and checks that it has stopped.',
  target: 'cluster',
  effect: 'change',
  // The port makes it once, and says what came of an earlier delivery.
  redelivery: 'run-again',
  parameters: object({
    unit_name: runnableUnit().required().meta({ description: 'The unit; not a template.' }),
    machine_ids: machinesOfChange(),
    wait_seconds: waitSeconds(),
  }),
  result: unitChanges(),
  inject: { units: UnitControl },

  async handle(request, { units }) {
    const { unit_name: unit, machine_ids: machines, wait_seconds: wait } = request.parameters;
    return {
      unit,
      changes: await units.change(request, { unit, verb: 'stop', machines, timeoutMs: wait * 1_000 }),
    };
  },
});
