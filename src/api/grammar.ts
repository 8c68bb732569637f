import { isIP } from 'node:net';
import { type InferType, mixed, type Schema, string, ValidationError } from 'yup';

const TEMPLATE_TYPES = new Set(['path', 'service', 'socket', 'target', 'timer']);
const UNIT_NAME =
  /^([0-9A-Za-z:\-_.\\@]+)\.(automount|busname|device|mount|path|scope|service|slice|snapshot|socket|swap|target|timer)$/;
const HOST_NAME =
  /^(?=.{1,253}\.?$)[0-9A-Za-z]([0-9A-Za-z_-]{0,61}[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z_-]{0,61}[0-9A-Za-z])?)*\.?$/;

/** Whether fleet accepts this as a unit name: it matches fleet's grammar and has at most 256 bytes (all ASCII). */
export function isUnitName(text: string): boolean {
  if (text.length > 256 || text.startsWith('@')) return false;
  const match = UNIT_NAME.exec(text);
  if (match === null) return false;
  const [, prefix = '', type = ''] = match;
  return !prefix.includes('@') || TEMPLATE_TYPES.has(type);
}

/**
 * Whether this is an IPv4 or IPv6 address or a host name (RFC 1123), as resolvers accept it: also with underscores within
 * (`node_1.lan`), and with a dot at the end, which makes it absolute (`db.example.org.`). A name whose last label is all
 * digits is refused: resolvers read such names (`127.1`, `0177.0.0.1`) as abbreviated or octal IPv4 addresses.
 */
export function isHostAddress(text: string): boolean {
  if (isIP(text) !== 0) return !text.includes('%');
  return HOST_NAME.test(text) && !/(^|\.)(\d+|0x[0-9a-f]*)\.?$/i.test(text);
}

/**
 * The canonical form of a host, for comparisons: names in lower case and without the dot at the end, IPv6 addresses in
 * the form of RFC 5952, and an IPv4 address embedded in IPv6 as plain IPv4. Embedded forms are `::ffff:a.b.c.d` and
 * `::a.b.c.d` (RFC 4291, 2.5.5), `::ffff:0:a.b.c.d` (RFC 2765, 2.1) and `64:ff9b::a.b.c.d` (RFC 6052, 2.1).
 * @param host valid for `isHostAddress`
 */
export function canonicalHost(host: string): string {
  if (isIP(host) !== 6 || host.includes('%')) return host.toLowerCase().replace(/\.$/, '');
  // The URL parser writes IPv6 addresses in the form of RFC 5952, except that it writes embedded IPv4 in hexadecimal.
  const text = new URL(`http://[${host}]`).hostname.slice(1, -1);
  const embedded = /^(?:::(?:ffff:(?:0:)?)?|64:ff9b::)([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(text);
  if (embedded === null) return text;
  const [high, low] = [Number.parseInt(embedded[1] ?? '', 16), Number.parseInt(embedded[2] ?? '', 16)];
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** Whether a name is that of a template, such as `web@.service`: only its instances run. */
export function isTemplateName(name: string): boolean {
  return /^[^@]+@\.[^.]+$/.test(name);
}

/** A unit name that fleet accepts: `web@1.service`, `-.mount`. */
export const unitName = () =>
  string()
    .max(256)
    .test(
      'unit-name',
      '${path} is not a valid unit name: NAME.TYPE, such as web@1.service',
      (value) => value === undefined || value === null || isUnitName(value),
    )
    .meta({ format: 'unit-name' });

/** An IPv4 or IPv6 address, or a host name. */
export const hostAddress = () =>
  string()
    .max(254)
    .test(
      'host-address',
      '${path} is not an IP address or a host name',
      (value) => value === undefined || value === null || isHostAddress(value),
    )
    .meta({ format: 'host-address' });

/** A machine's id, as fleet lists it: 32 hexadecimal digits. */
export const machineId = () =>
  string().matches(/^[0-9a-f]{32}$/, '${path} is not a machine id: 32 hexadecimal digits, lower case');

/** A pattern for unit names: `*` stands for any text, `?` for one character. Match with `globMatcher`. */
export const glob = () =>
  string()
    .matches(
      /^[0-9A-Za-z:\-_.\\@*?]{1,256}$/,
      '${path} is not a unit name or a pattern, such as web@*.service: * is any text, ? one character',
    )
    .meta({ format: 'unit-pattern' });

/** A map from strings to strings, such as a machine's metadata. */
export const stringMap = () =>
  mixed((value): value is Record<string, string> => isMap(value))
    .typeError('${path} must be a map from strings to strings')
    .test('string-map', (value, { path, createError }) => {
      const wrong = Object.entries(value ?? {}).find(([, each]) => typeof each !== 'string');
      if (wrong === undefined) return true;
      return createError({
        path: `${path ? `${path}.` : ''}${wrong[0]}`,
        message: '${path} must be a string',
      });
    })
    .meta({ format: 'string-map' });

/**
 * A map from arbitrary strings to values of one schema, such as one entry for each machine. Defaults inside the values
 * are not filled in.
 */
export const mapOf = <S extends Schema>(values: S) =>
  mixed((value): value is Record<string, InferType<S>> => isMap(value))
    .typeError('${path} must be a map')
    .test('map', (value, { path, schema }) => {
      // Not the argument `values`: the service replaces it in the metadata with a strict schema.
      const inner = schema.spec.meta.values as Schema;
      const problems = Object.entries(value ?? {}).flatMap(([key, each]) => {
        const within = /^\w+$/.test(key) ? `${path ? `${path}.` : ''}${key}` : `${path ?? ''}["${key}"]`;
        return problemsOf(inner, each, within);
      });
      return problems.length === 0 || new ValidationError(problems, value, path, 'map');
    })
    .meta({ format: 'map', values });

function problemsOf(schema: Schema, value: unknown, path: string): ValidationError[] {
  // yup's object schemas pass `path` to their fields; its public type omits the option.
  const options = { strict: true, abortEarly: false, disableStackTrace: true, path };
  try {
    schema.validateSync(value, options);
    return [];
  } catch (error) {
    if (ValidationError.isError(error)) return [error];
    throw error;
  }
}

function isMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The length of the longest text that a pattern matches: names of units and hosts are shorter. */
const LONGEST_MATCH = 1_024;

/**
 * Compiles a `glob()` pattern. It matches no text of more than 1,024 characters, and matching takes at most pattern
 * length times text length steps. (A regular expression made from `*a*a*a*b` could need exponentially many.)
 */
export function globMatcher(pattern: string): (text: string) => boolean {
  if (!/[*?]/.test(pattern)) return (text) => text === pattern;
  return (text) => {
    if (text.length > LONGEST_MATCH) return false;
    let p = 0;
    let star = -1;
    let resume = 0;
    for (let t = 0; t < text.length; ) {
      if (p < pattern.length && pattern[p] === '*') {
        star = p++;
        resume = t;
      } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
        p++;
        t++;
      } else if (star >= 0) {
        p = star + 1;
        t = ++resume;
      } else {
        return false;
      }
    }
    while (pattern[p] === '*') p++;
    return p === pattern.length;
  };
}
