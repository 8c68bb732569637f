import { number, object, string } from 'yup';
import { Clock, defineAction, FleetTransport, unitName } from '../../src/plugin.js';
import { restart } from './restart.js';
import { KeyedMutex } from './keyed-mutex.js';

function restartUnit() {
  // Concurrent restarts of one unit would interfere with each other.
  const mutex = new KeyedMutex();
  return defineAction({
    name: 'restart_unit',
    summary: 'Restarts a unit, and checks that it has really stopped and is active again.',
    target: 'cluster',
    effect: 'change',
    // A worker may be lost while the unit is stopped: a second restart is better than a stopped unit.
    redelivery: 'run-again',
    parameters: object({
      unit_name: unitName().required().meta({ description: 'The unit; not a global one.' }),
      wait_seconds: number()
        .integer()
        .min(1)
        .max(240)
        .default(25)
        .meta({ description: 'How long to wait until it has stopped and started again, in total.' }),
    }),
    result: string()
      .defined()
      .meta({ description: 'What was observed, for people: the states before and after, and the duration.' }),
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
