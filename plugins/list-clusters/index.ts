import { array, number, object, string } from 'yup';
import { Clusters, defineAction } from '../../src/plugin.js';

export default defineAction({
  name: 'list_clusters',
  summary: 'Lists the clusters that have names.',
  target: 'none',
  effect: 'read',
  parameters: object({}),
  result: array(
    object({
      name: string().required().meta({ description: 'Send it as `etcd_token`.' }),
      kind: string()
        .oneOf(['fleet', 'systemd'] as const)
        .required()
        .meta({ description: 'fleet: CoreOS fleet over etcd. systemd: plain hosts, reached by SSH.' }),
      machines: number()
        .integer()
        .nullable()
        .defined()
        .meta({ description: 'How many machines the operator lists; null: the cluster itself knows.' }),
    }),
  ).required(),
  inject: { clusters: Clusters },

  handle: async (_request, { clusters }) => clusters.list(),
});
