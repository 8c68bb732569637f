import { defineAction } from 'fleet-manager/plugin';
import { number, object } from 'yup';

export default defineAction({
  name: 'ping_change',
  summary: 'Returns the number: a minimal action that counts as a change.',
  target: 'cluster',
  effect: 'change',
  parameters: object({ number: number().integer().required().meta({ description: 'The number.' }) }),
  result: object({ number: number().required().meta({ description: 'The same number.' }) }),
  handle: async ({ parameters }) => ({ number: parameters.number }),
});
