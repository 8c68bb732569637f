import type { clustersFileOf } from '../composition.js';
import { counted, type Finding, listed, ok } from './finding.js';

type ClustersFile = ReturnType<typeof clustersFileOf>;

/**
 * Says what is in `CLUSTERS_FILE`: the clusters that have names, how many need the discovery service, and which entries cannot be used.
 * @param advises whether to say how to check one
 */
export function checkClustersFile(file: ClustersFile, advises: boolean): Finding {
  const { count, endpoints, tokens, names, problems } = file;
  const toFind = needingDiscovery({ endpoints, tokens });
  const has = `CLUSTERS_FILE has ${counted(count, 'cluster')}${names.size === 0 ? '' : `: ${listed([...names.values()])}`}`;
  if (problems.length > 0)
    return {
      result: 'FAILED',
      lines: [has, ...problems, '-> correct these entries: the service reads the file again when it changes'],
    };
  return ok(
    has,
    ...(toFind.length === 0 ? [] : [`${toFind.length} of them without endpoints: discovery finds these`]),
    ...(advises ? ['to check one, add --cluster NAME'] : []),
  );
}

/** The tokens of the clusters whose endpoints the file does not have. */
export function needingDiscovery({
  endpoints,
  tokens,
}: Pick<ClustersFile, 'endpoints' | 'tokens'>): string[] {
  return [...tokens.values()].filter((token) => !endpoints.has(token));
}
