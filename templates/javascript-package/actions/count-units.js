import { ActionError, defineAction, FleetTransport, glob, globMatcher } from 'fleet-manager/plugin';
import { number, object } from 'yup';

export default defineAction({
  name: 'count_units',
  summary: 'Counts the units of a cluster.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    name: glob().optional().meta({ description: 'Only units of this name, or matching this pattern.' }),
  }),
  result: object({
    units: number().required().meta({ description: 'How many there are.' }),
  }),
  settings: object({
    ignored: glob()
      .optional()
      .meta({ description: 'Units of this name, or matching this pattern, do not count.' }),
  }),
  inject: { fleet: FleetTransport },

  async handle({ parameters, settings, cluster, signal, authorize, log }, { fleet }) {
    const fits = globMatcher(parameters.name ?? '*');
    const isIgnored = globMatcher(settings.ignored ?? '');
    const units = await fleet.units(cluster, { signal });
    const found = units.filter(({ name }) => authorize(name) && fits(name) && !isIgnored(name));
    if (found.length === 0) throw new ActionError('unit_not_found', 'The cluster has no such unit');
    log.debug('counted', { of: units.length });
    return { units: found.length };
  },
});
