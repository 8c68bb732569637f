import { globMatcher } from '../api/grammar.js';
import type { PreparedAction } from '../core/prepare-action.js';
import type { PolicyFile, PolicyRule } from './policy-definition.js';

/** Tokens are random. A name that a person gives has no such long run of digits and letters from a to f. */
const MAY_BE_TOKEN = /[0-9a-f]{8}/i;

/** What there is for rules to match. */
export interface Served {
  /** Undefined: it is not known which actions are served. */
  readonly actions: readonly Pick<PreparedAction, 'description' | 'unitMarks'>[] | undefined;
  /** The names of clusters by what identifies them: an etcd token, or the name itself. */
  readonly clusters: ReadonlyMap<string, string>;
}

/** What in a policy can match nothing, a sentence each. A pattern of clusters that may be a token is not quoted. */
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
  const names = [...clusters.values()];
  return patterns.flatMap((each, index) => {
    if (names.some(globMatcher(each))) return [];
    const name = clusters.get(each);
    if (name !== undefined) return [`clusters[${index}] is the etcd token of ${name}: write the name`];
    const shown = MAY_BE_TOKEN.test(each) ? `for its clusters[${index}]` : each;
    return [`CLUSTERS_FILE has no cluster ${shown}`];
  });
}
