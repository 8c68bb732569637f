import { printable } from '../lib/printable.js';
import { type Path, readYaml, refuseProblems } from '../lib/placed-yaml.js';
import { problemsBySchema, type SchemaProblem } from './check-by-schema.js';
import { MAX_POLICY_BYTES, POLICY_SCHEMA, type PolicyFile } from './policy-definition.js';

/**
 * Reads the text of a policy file, YAML 1.2 or JSON.
 * @throws Error that lists what is wrong, each problem with its line and column
 */
export function readPolicy(text: string): PolicyFile {
  if (Buffer.byteLength(text) > MAX_POLICY_BYTES)
    throw new Error(`it has more than ${MAX_POLICY_BYTES} bytes`);
  const { value, placeOf } = readYaml(text);
  const problems = problemsBySchema(value, POLICY_SCHEMA);
  if (problems.length === 0) problems.push(...sameNames(value as PolicyFile));
  refuseProblems(
    problems.map(
      ({ path, message, ofKey = false }) =>
        `${placeOf(path, ofKey)}: ${printable(shownPath(path))} ${message}`,
    ),
  );
  // It is as the schema says, of which the type is the form.
  return value as PolicyFile;
}

function sameNames({ rules }: PolicyFile): SchemaProblem[] {
  const seen = new Set<string>();
  return rules.flatMap(({ name }, index) => {
    if (name === undefined) return [];
    const isKnown = seen.has(name);
    seen.add(name);
    return isKnown ? [{ path: ['rules', index, 'name'], message: 'is the name of another rule too' }] : [];
  });
}

/** `rules[2].callers[0]` */
function shownPath(path: Path): string {
  const text = path.map((each) => (typeof each === 'number' ? `[${each}]` : `.${each}`)).join('');
  return text === '' ? 'the file' : text.replace(/^\./, '').slice(0, 200);
}
