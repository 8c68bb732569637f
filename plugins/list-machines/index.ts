import { array, object, string } from 'yup';
import { defineAction, FleetTransport, stringMap } from '../../src/plugin.js';

export default defineAction({
  name: 'list_machines',
  summary: 'Lists the machines of a cluster.',
  target: 'cluster',
  effect: 'read',
  coalesce: true,
  parameters: object({
    metadata: stringMap()
      .optional()
      .meta({ description: 'Only machines whose metadata has all of these values.' }),
  }),
  result: array(
    object({
      id: string().required().meta({ column: 'MACHINE', description: 'The machine id.' }),
      primaryIP: string().nullable().defined().meta({ column: 'IP', description: 'Its address in fleet.' }),
      metadata: stringMap().required().meta({
        column: 'METADATA',
        description: 'The metadata of the machine in fleet, such as its region.',
      }),
    }),
  ).required(),
  inject: { fleet: FleetTransport },

  async handle({ parameters, cluster, signal, warn }, { fleet }) {
    const wanted = Object.entries(parameters.metadata ?? {});
    const machines = await fleet.machines(cluster, { signal, warn });
    await fleet.incompleteness(cluster, { signal, warn });
    return machines.filter(({ metadata }) => wanted.every(([key, value]) => metadata[key] === value));
  },
});
