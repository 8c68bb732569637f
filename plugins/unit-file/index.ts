import { array, boolean, object, string } from 'yup';
import { ActionError, defineAction, machinesOfChange, UnitFiles, unitName } from '../../src/plugin.js';

export default defineAction({
  name: 'unit_file',
  summary: 'Returns the file of a unit, with its drop-ins, as each machine has it.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    unit_name: unitName().required().meta({ description: 'The unit; templates too.' }),
    machine_ids: machinesOfChange(),
  }),
  result: object({
    unit: string().required().meta({ description: 'The unit.' }),
    files: array(
      object({
        machine_id: string().nullable().defined().meta({ description: "The machine; null: fleet's own." }),
        host: string().nullable().defined().meta({ description: 'Its address.' }),
        path: string().nullable().defined().meta({ description: "Where it is; null: fleet's own." }),
        text: string()
          .nullable()
          .defined()
          .meta({ description: 'The text as it is there; null: it cannot be told, as a warning says.' }),
        source: object({
          path: string().required().meta({ description: 'Where it is.' }),
          text: string().nullable().defined().meta({ description: 'The text; null: it cannot be told.' }),
        })
          .nullable()
          .defined()
          .meta({ description: 'What a generator has made it from, such as a quadlet.' }),
        drop_ins: array(
          object({
            path: string().required().meta({ description: 'Where it is.' }),
            text: string().nullable().defined().meta({ description: 'The text; null: it cannot be told.' }),
          }),
        )
          .required()
          .meta({ description: 'Files that change it, such as X.service.d/more.conf.' }),
        hash: string().nullable().defined().meta({ description: 'The hash that fleet has of such a unit.' }),
        is_current: boolean()
          .nullable()
          .defined()
          .meta({ description: 'Whether systemd has read these texts; null: not known.' }),
      }),
    )
      .required()
      .meta({ description: 'One for each machine that has the unit.' }),
  }),
  inject: { unitFiles: UnitFiles },

  async handle({ parameters, cluster, signal, warn }, { unitFiles }) {
    const { unit_name: unit, machine_ids: machines } = parameters;
    const files = await unitFiles.read(cluster, unit, { signal, machines, warn });
    if (files.length === 0)
      throw new ActionError('unit_not_found', `The cluster has no file of ${unit}, as far as it answers`);
    return { unit, files };
  },
});
