/** The smallest integer of more than 64 bytes, which no encoding accepts. */
const LIMIT = 2n ** 512n;
const MAX_DEPTH = 100;
const MAX_KEY = 100;

/**
 * Where a value contains an integer that is too long to be encoded: a path such as `.units[3].size`, empty for the value
 * itself. Undefined when it contains none within a hundred levels.
 */
export function longIntegerIn(value: unknown): string | undefined {
  return pathIn(value, new Set());
}

/** @param seen the objects that were searched: a result may refer to itself */
function pathIn(value: unknown, seen: Set<object>, depth = 0): string | undefined {
  if (typeof value === 'bigint') return value >= LIMIT || value <= -LIMIT ? '' : undefined;
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH || seen.has(value)) return undefined;
  seen.add(value);
  for (const [key, each] of Object.entries(value)) {
    const path = pathIn(each, seen, depth + 1);
    if (path === undefined) continue;
    return `${Array.isArray(value) ? `[${key}]` : `.${key.slice(0, MAX_KEY)}`}${path}`;
  }
  return undefined;
}
