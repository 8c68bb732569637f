import type { clustersFileOf } from '../composition.js';
import { counted, type Finding, listed, ok } from './finding.js';

type ClustersFile = ReturnType<typeof clustersFileOf>;

/** Says what is in `CLUSTERS_FILE`: the clusters that have names, and how many need the discovery service. @param advises whether to say how to check one */
export function checkClustersFile({ endpoints, tokens, names }: ClustersFile, advises: boolean): Finding {
  const known = [...new Set([...endpoints.keys(), ...tokens.values()])];
  const toFind = needingDiscovery({ endpoints, tokens });
  return ok(
    `CLUSTERS_FILE has ${counted(known.length, 'cluster')}${names.size === 0 ? '' : `: ${listed([...names.values()])}`}`,
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
