import { number, object, string } from 'yup';
import {
  ActionError,
  Clock,
  defineAction,
  FleetTransport,
  isTemplateName,
  unitName,
} from '../../src/plugin.js';
import { leftBehind } from './left-behind.js';
import { restart } from './restart.js';

export default defineAction({
  name: 'restart_unit',
  summary: 'Restarts a unit, and checks that it really stopped and is up again.',
  target: 'cluster',
  effect: 'change',
  // A second restart must not come as a surprise; what a lost worker has left is for `probe`.
  redelivery: 'refuse',
  parameters: object({
    unit_name: unitName()
      .required()
      .test(
        'no-template',
        '${path} is a template: only its instances run, such as web@1.service',
        (value) => value === undefined || !isTemplateName(value),
      )
      .meta({ description: 'The unit; not a global one, and not a template.' }),
    wait_seconds: number()
      .integer()
      .min(1)
      .max(240)
      .default(25)
      .meta({ description: 'The time limit for stopping and starting together, in seconds.' }),
  }),
  result: string().defined().meta({
    description: 'A string for people: the states before and after, and how long each step took.',
  }),
  inject: { fleet: FleetTransport, clock: Clock },

  async handle({ parameters, cluster, signal, log, repeated, warn }, { fleet, clock }) {
    const { unit_name: unit, wait_seconds: wait } = parameters;
    try {
      return await restart(unit, wait * 1_000, { fleet, clock, cluster, signal, log, repeated, warn });
    } catch (error) {
      throw signal.aborted && error === signal.reason ? notChanged(unit, error) : error;
    }
  },

  // A unit that is set to be up was restarted, or was never stopped: which one cannot be known.
  async probe({ parameters, cluster, signal, log, warn }, { fleet, clock }) {
    const { unit_name: unit, wait_seconds: wait } = parameters;
    const left = await leftBehind(unit, { fleet, cluster, signal, log });
    if (left === 'stopped')
      return restart(unit, wait * 1_000, { fleet, clock, cluster, signal, log, repeated: true, warn });
    // Whichever host lags behind, it must be up in the end.
    if (left === 'unclear') await fleet.setDesiredState(cluster, unit, 'launched', { signal });
    return undefined;
  },
});

/** The error of a request that ended before it changed anything: it can be sent again. */
function notChanged(unit: string, reason: unknown): ActionError {
  const [code, why] =
    reason instanceof ActionError ? [reason.code, reason.message] : ['cancelled', String(reason)];
  return new ActionError(code, `${unit} was not changed: ${why}`, { cause: reason });
}
