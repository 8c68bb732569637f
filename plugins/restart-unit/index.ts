import { number, object, string } from 'yup';
import {
  ActionError,
  Clock,
  defineAction,
  FleetTransport,
  isTemplateName,
  unitName,
} from '../../src/plugin.js';
import { restart } from './restart.js';
import { KeyedMutex } from './keyed-mutex.js';

/** How many restarts of one unit may run and wait. Each holds one of the running requests of its cluster. */
const MAX_RESTARTS = 3;
/** When to try again after a refusal: a restart takes longer than its seven seconds up. In milliseconds. */
const BUSY_MS = 10_000;

function restartUnit() {
  // Concurrent restarts of one unit would interfere with each other.
  const mutex = new KeyedMutex();
  return defineAction({
    name: 'restart_unit',
    summary: 'Restarts a unit, and checks that it really stopped and is up again.',
    target: 'cluster',
    effect: 'change',
    // If the worker is lost, the unit may be stopped: restarting it twice is better than leaving it so.
    redelivery: 'run-again',
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
      const key = `${cluster.key} ${unit}`;
      if (mutex.count(key) >= MAX_RESTARTS) {
        throw new ActionError(
          'cluster_busy',
          `${unit} was not changed: ${MAX_RESTARTS} restarts of it run or wait already`,
          { details: { retry_after_ms: BUSY_MS } },
        );
      }
      const parts = { fleet, clock, cluster, signal, log, repeated, warn };
      try {
        return await mutex.runExclusive(key, signal, () => restart(unit, wait * 1_000, parts));
      } catch (error) {
        throw signal.aborted && error === signal.reason ? notChanged(unit, error) : error;
      }
    },
  });
}

/** The error of a request that ended before it changed anything: it can be sent again. */
function notChanged(unit: string, reason: unknown): ActionError {
  const [code, why] =
    reason instanceof ActionError ? [reason.code, reason.message] : ['cancelled', String(reason)];
  return new ActionError(code, `${unit} was not changed: ${why}`, { cause: reason });
}

export default restartUnit();
