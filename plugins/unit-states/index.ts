import { array, object, string } from 'yup';
import { defineAction, FleetTransport, machineId, unitName } from '../../src/plugin.js';

export default defineAction({
  name: 'list_unit_states',
  summary: 'Lists the systemd states of the units on each machine of a cluster.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    unit_name: unitName().optional().meta({ description: 'Only the states of this unit.' }),
    machine_id: machineId().optional().meta({ description: 'Only the states on this machine.' }),
  }),
  result: array(
    object({
      name: string()
        .required()
        .meta({ description: "The unit's name; a global unit has a state on every machine." }),
      hash: string().nullable().defined().meta({ description: 'The sha1 of the running unit file.' }),
      machineID: string().nullable().defined().meta({ description: 'The id of the machine.' }),
      systemdLoadState: string().nullable().defined().meta({ description: 'Such as loaded, not-found.' }),
      systemdActiveState: string()
        .nullable()
        .defined()
        .meta({ description: 'Such as active, inactive, failed.' }),
      systemdSubState: string().nullable().defined().meta({ description: 'Such as running, dead, exited.' }),
    }),
  ).required(),
  inject: { fleet: FleetTransport },

  async handle({ parameters, cluster, signal }, { fleet }) {
    return fleet.unitStates(cluster, {
      unitName: parameters.unit_name,
      machineID: parameters.machine_id,
      signal,
    });
  },
});
