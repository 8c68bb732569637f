import { array, mixed, object, string } from 'yup';
import {
  Clock,
  defineAction,
  FleetTransport,
  RemoteShell,
  timeForParts,
  UnitControl,
} from '../../src/plugin.js';
import { checkFleet } from './check-fleet.js';
import { checkHosts } from './check-hosts.js';

export default defineAction({
  name: 'check_cluster',
  summary: 'Checks a cluster and lists what is wrong; a healthy cluster has no findings.',
  target: 'cluster',
  effect: 'read',
  parameters: object({}),
  result: array(
    object({
      severity: string()
        .oneOf(['error', 'warning'] as const)
        .required()
        .meta({ description: 'error: something does not work; warning: something may be wrong.' }),
      kind: string().required().meta({
        description: 'What is wrong, such as unit_failed; the page of the action lists all kinds.',
      }),
      subject: string().required().meta({ description: 'The host, member, machine or unit, or the list.' }),
      message: string().required().meta({ description: 'What is wrong.' }),
      advice: string().required().meta({ description: 'What to do about it.' }),
      evidence: mixed<Readonly<Record<string, unknown>>>().required().meta({
        type: 'object',
        description: 'The figures that it rests on; which, depends on the kind.',
      }),
    }),
  )
    .required()
    .meta({ display: 'records', description: 'The findings, the hosts first.' }),
  inject: { fleet: FleetTransport, shell: RemoteShell, units: UnitControl, clock: Clock },

  async handle({ cluster, signal, deadline, warn }, { fleet, shell, units, clock }) {
    const timeMs = timeForParts(deadline - clock.now());
    const context = { cluster, fleet, shell, clock, signal, timeMs, endsAt: clock.now() + timeMs, warn };
    return units.kindOf(cluster) === 'systemd' ? checkHosts(context) : checkFleet(context);
  },
});
