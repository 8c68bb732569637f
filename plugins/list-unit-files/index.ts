import { array, boolean, object, string } from 'yup';
import { defineAction, glob, globMatcher, machinesOfChange, UnitFiles } from '../../src/plugin.js';

export default defineAction({
  name: 'list_unit_files',
  summary: 'Lists the unit files of the machines of a cluster, also of units that do not run.',
  target: 'cluster',
  effect: 'read',
  coalesce: true,
  parameters: object({
    name: glob().optional().meta({ description: 'Only units with this name, or that match this pattern.' }),
    machine_ids: machinesOfChange(),
    all: boolean().default(false).meta({ description: 'On systemd hosts those of the distribution too.' }),
  }),
  result: array(
    object({
      unit: string().required().meta({ description: 'The unit.', column: 'UNIT' }),
      state: string().required().meta({
        description:
          'enabled, disabled, static, masked, alias, linked, generated or transient; of fleet the desired state.',
        column: 'STATE',
      }),
      host: string().nullable().defined().meta({ description: 'The machine; null: fleet.', column: 'HOST' }),
      machine_id: string().nullable().defined().meta({ description: 'Its id.' }),
      path: string().nullable().defined().meta({ description: 'Where it is.', column: 'PATH' }),
    }),
  )
    .required()
    .meta({ description: 'By unit and machine.' }),
  inject: { unitFiles: UnitFiles },

  async handle({ parameters, cluster, signal, warn, authorize, authorizesAll }, { unitFiles }) {
    const { name, machine_ids: machines, all } = parameters;
    const matches = name === undefined ? () => true : globMatcher(name);
    const entries = await unitFiles.list(cluster, { signal, machines, all, warn });
    return entries.filter(({ unit }) => matches(unit) && (authorizesAll || authorize(unit)));
  },
});
