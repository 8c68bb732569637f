import { array, boolean, mixed, number, object, string } from 'yup';
import { Actions, defineAction, glob, globMatcher } from '../../src/plugin.js';

const schema = (description: string) => mixed().meta({ type: 'object', description });

export default defineAction({
  name: 'describe_actions',
  summary: 'Describes the actions of this service.',
  target: 'none',
  effect: 'read',
  parameters: object({
    name: glob().optional().meta({ description: 'Only actions of this name, or matching this pattern.' }),
    brief: boolean()
      .default(false)
      .meta({ description: 'Whether to leave out the schemas of parameters and results.' }),
  }),
  result: array(
    object({
      name: string().required().meta({ description: 'The name of the action.' }),
      summary: string().required().meta({ description: 'Its purpose.' }),
      target: string()
        .oneOf(['cluster', 'optional', 'none'])
        .required()
        .meta({ description: 'Whether it needs, accepts or refuses an etcd token.' }),
      effect: string()
        .oneOf(['read', 'change'])
        .required()
        .meta({ description: 'Whether it changes something.' }),
      redelivery: string()
        .oneOf(['run-again', 'refuse'])
        .required()
        .meta({ description: 'What happens to a request that a lost worker may have begun.' }),
      timeout_ms: number()
        .integer()
        .required()
        .meta({ description: 'How long one run may take, in milliseconds.' }),
      parameters: schema('The JSON Schema of its parameters.'),
      result: schema('The JSON Schema of its result.'),
    }),
  ).required(),
  inject: { actions: Actions },

  async handle({ parameters: { name, brief } }, { actions }) {
    const fits = globMatcher(name ?? '*');
    return actions
      .describe()
      .filter((action) => fits(action.name))
      .map(({ parameters, result, ...described }) =>
        brief ? described : { ...described, parameters, result },
      );
  },
});
