import { number, object, string } from 'yup';
import { Clock, defineAction, FleetTransport, unitName } from '../../src/plugin.js';
import { restart } from './restart.js';
import { KeyedMutex } from './keyed-mutex.js';

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
      unit_name: unitName().required().meta({ description: 'The unit; not a global one.' }),
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

    handle({ parameters, cluster, signal, log }, { fleet, clock }) {
      const { unit_name: unit, wait_seconds: wait } = parameters;
      return mutex.runExclusive(`${cluster.hash} ${unit}`, signal, () =>
        restart(unit, wait * 1_000, { fleet, clock, cluster, signal, log }),
      );
    },
  });
}

export default restartUnit();
