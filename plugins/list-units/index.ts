import { array, boolean, object, string } from 'yup';
import { defineAction, FleetTransport, glob, globMatcher, machineId, type Warn } from '../../src/plugin.js';

/** In place of what may name units that the caller may not see. */
const MAY_LACK = 'The list cannot be read completely: it may lack some units';
const STATES = ['inactive', 'loaded', 'launched'] as const;

export default defineAction({
  name: 'list_units',
  summary: 'Lists the units of a cluster with their options and states.',
  target: 'cluster',
  effect: 'read',
  coalesce: true,
  parameters: object({
    name: glob()
      .optional()
      .meta({ description: 'Only units of this name, or matching this pattern: web@*.service.' }),
    desired_state: string()
      .oneOf(STATES)
      .optional()
      .meta({ description: 'Only units with this desired state.' }),
    current_state: string()
      .oneOf(STATES)
      .optional()
      .meta({ description: 'Only units that fleet reports in this state; not meaningful for global units.' }),
    machine_id: machineId().optional().meta({ description: 'Only units scheduled to this machine.' }),
    all: boolean().optional().meta({
      description: 'On plain systemd hosts also the units of the distribution that are loaded.',
    }),
  }),
  result: array(
    object({
      name: string().required().meta({ column: 'UNIT', description: "The unit's name." }),
      options: array(
        object({
          section: string().defined().meta({ description: 'The section of the unit file.' }),
          name: string().defined().meta({ description: "The option's name." }),
          value: string().defined().meta({ description: "The option's value; may be empty." }),
        }),
      )
        .required()
        .meta({ description: 'The unit file, one entry for each option.' }),
      desiredState: string()
        .nullable()
        .defined()
        .meta({ column: 'DSTATE', description: 'inactive, loaded or launched.' }),
      currentState: string().nullable().defined().meta({
        column: 'STATE',
        description: 'inactive, loaded or launched; launched does not mean healthy.',
      }),
      machineID: string().nullable().defined().meta({
        column: 'TARGET',
        description: 'The machine that it is scheduled to; null: none, or the unit is global.',
      }),
    }),
  ).required(),
  inject: { fleet: FleetTransport },

  async handle({ parameters, cluster, signal, warn, authorize, authorizesAll }, { fleet }) {
    const { name, desired_state: desired, current_state: current, machine_id: machine, all } = parameters;
    const named = name === undefined ? () => true : globMatcher(name);
    const tell: Warn = authorizesAll ? warn : (_text, facts) => warn(MAY_LACK, facts);
    const [units] = await Promise.all([
      fleet.unitRows(cluster, { signal, warn: tell, all }),
      fleet.incompleteness(cluster, { signal, warn }),
    ]);
    const filters = [name, desired, current, machine];
    if (authorizesAll && filters.every((each) => each === undefined)) return units;
    return units.filter(
      (unit) =>
        named(unit.name) &&
        authorize(unit.name) &&
        (desired === undefined || unit.desiredState === desired) &&
        (current === undefined || unit.currentState === current) &&
        (machine === undefined || unit.machineID === machine),
    );
  },
});
