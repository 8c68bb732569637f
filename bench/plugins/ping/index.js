import { defineAction } from 'fleet-manager/plugin';
import { number, object } from 'yup';

export default defineAction({
  name: 'ping',
  summary: 'Gives back a number: as small as a read can be.',
  target: 'cluster',
  effect: 'read',
  parameters: object({ number: number().integer().required().meta({ description: 'The number.' }) }),
  result: object({ number: number().required().meta({ description: 'The same number.' }) }),
  handle: async ({ parameters }) => ({ number: parameters.number }),
});
