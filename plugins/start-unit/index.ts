import { object } from 'yup';
import {
  defineAction,
  machinesOfChange,
  runnableUnit,
  settleSeconds,
  unitChanges,
  UnitControl,
  waitSeconds,
} from '../../src/plugin.js';

export default defineAction({
  name: 'start_unit',
  summary: 'Starts a unit, and checks that it is up and stays up.',
  target: 'cluster',
  effect: 'change',
  // The port makes it once, and says what came of an earlier delivery.
  redelivery: 'run-again',
  parameters: object({
    unit_name: runnableUnit().required().meta({ description: 'The unit; not a template.' }),
    machine_ids: machinesOfChange(),
    wait_seconds: waitSeconds(),
    settle_seconds: settleSeconds(
      'How long it must stay active, by the same start, in seconds; on fleet at least 7.',
    ),
  }),
  result: unitChanges(),
  inject: { units: UnitControl },

  async handle(request, { units }) {
    const {
      unit_name: unit,
      machine_ids: machines,
      wait_seconds: wait,
      settle_seconds: settle,
    } = request.parameters;
    return {
      unit,
      changes: await units.change(request, {
        unit,
        verb: 'start',
        machines,
        timeoutMs: wait * 1_000,
        settleMs: settle * 1_000,
      }),
    };
  },
});
