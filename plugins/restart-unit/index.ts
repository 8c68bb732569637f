import { number, object, string } from 'yup';
import { Clock, defineAction, FleetTransport, unitName } from '../../src/plugin.js';
import { restart } from './restart.js';
import { KeyedMutex } from './keyed-mutex.js';

function restartUnit() {
  // Two restarts of one unit at the same time would undo each other.
  const mutex = new KeyedMutex();
  return defineAction({
    name: 'restart_unit',
    summary: 'Restarts a unit, and sees to it that it really stopped and is up again.',
    target: 'cluster',
    effect: 'change',
    // A worker may be lost with the unit stopped: two restarts are better than that.
    redelivery: 'run-again',
    parameters: object({
      unit_name: unitName().required().meta({ description: 'The unit; not a global one.' }),
      wait_seconds: number()
        .integer()
        .min(1)
        .max(240)
        .default(25)
        .meta({ description: 'How long to wait for it to stop and to start again, in all.' }),
    }),
    result: string()
      .defined()
      .meta({ description: 'What was seen, for people: the states before and after, and how long it took.' }),
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
