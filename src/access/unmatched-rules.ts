import { globMatcher } from '../api/grammar.js';
import type { PreparedAction } from '../core/prepare-action.js';
import type { PolicyFile, PolicyRule } from './policy-definition.js';

/** What there is for rules to match. */
export interface Served {
  /** Undefined: it is not known which actions are served. */
  readonly actions: readonly Pick<PreparedAction, 'description' | 'unitMarks'>[] | undefined;
  /** The names of clusters. */
  readonly clusters: readonly string[];
}

/** What in a policy can match nothing, a sentence each. It quotes no pattern of clusters: in its place may be a token. */
export function unmatchedRules({ rules }: PolicyFile, served: Served): string[] {
  return rules.flatMap((rule, index) => {
    const name = rule.name ?? `rule ${index + 1}`;
    return [...unmatchedActions(rule, served), ...unmatchedClusters(rule, served)].map(
      (problem) => `${name}: ${problem}`,
    );
  });
}

function unmatchedActions(
  { actions: patterns = [], effects, units }: PolicyRule,
  { actions }: Served,
): string[] {
  if (actions === undefined) return [];
  const unmatched = patterns.filter((each) => {
    const matches = globMatcher(each);
    return !actions.some(({ description }) => matches(description.name));
  });
  const isFor = ({ description: { name, effect } }: (typeof actions)[number]) =>
    effects?.includes(effect) ?? patterns.some((each) => globMatcher(each)(name));
  const own = actions.filter(isFor);
  const neverForUnits =
    units !== undefined && own.length > 0 && own.every(({ unitMarks }) => unitMarks === 'none');
  return [
    ...unmatched.map((each) => `no action is called ${each}`),
    ...(neverForUnits ? ['it has units, and its actions know none'] : []),
  ];
}

function unmatchedClusters({ clusters: patterns = [] }: PolicyRule, { clusters }: Served): string[] {
  return patterns.flatMap((each, index) =>
    clusters.some(globMatcher(each)) ? [] : [`CLUSTERS_FILE has no cluster for clusters[${index}]`],
  );
}
