import type { Catalogue } from '../core/catalogue.js';
import { reasonOf } from '../lib/errors.js';
import { counted, failed, type Finding, ok, warned } from './finding.js';

/**
 * Checks the policy file.
 * @param file its path; undefined: there is none
 * @param found the catalogue is undefined when the plugins cannot be served, the names when CLUSTERS_FILE cannot be used
 */
export async function checkPolicy(
  file: string | undefined,
  {
    catalogue,
    clusterNames,
  }: { catalogue: Catalogue | undefined; clusterNames: ReadonlyMap<string, string> | undefined },
): Promise<Finding> {
  if (file === undefined)
    return warned([
      'every caller may do everything: there is no policy',
      '-> set POLICY_FILE to a file that says which callers may do what (docs/access.md)',
    ]);
  // Imported only here: most of the commands need no YAML.
  const [{ readPolicy }, { readTextFile }, { unmatchedRules }] = await Promise.all([
    import('../access/read-policy.js'),
    import('../lib/text-file.js'),
    import('../access/unmatched-rules.js'),
  ]);
  try {
    const policy = readPolicy(readTextFile(file));
    const rules = counted(policy.rules.length, 'rule');
    const actions = catalogue?.describe().flatMap(({ name }) => catalogue.find(name) ?? []);
    const unmatched =
      clusterNames === undefined ? [] : unmatchedRules(policy, { actions, clusters: clusterNames });
    if (unmatched.length === 0) return ok(rules);
    return warned([
      `${rules}; some can match nothing here:`,
      ...unmatched,
      '-> correct the names; `fleet-manager actions` lists the actions',
    ]);
  } catch (error) {
    return failed(`POLICY_FILE cannot be used: ${reasonOf(error)}`, 'correct the file');
  }
}
