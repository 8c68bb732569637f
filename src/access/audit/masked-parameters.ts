import type { JsonSchema } from '../../core/json-schema.js';
import { fieldsOf } from '../../lib/fields-of.js';
import { maskedIfUrl } from '../../lib/masked-url.js';

const MASK = '***';
/** The rest of a value that is too long. */
const CUT = '...';
/** Names that contain one of these name a secret. */
const SECRET_PARTS = /passw(?:or)?d|passphrase|secret|token|credential|(?:api|private|access|signing)key/;
/** Names that have one of these words name a secret: `ssh_key`, not `keyword`. */
const SECRET_WORDS: ReadonlySet<string> = new Set([
  'key',
  'keys',
  'pwd',
  'pin',
  'auth',
  'authorization',
  'cookie',
  'bearer',
]);

const MAX_TEXT = 256;
const MAX_NAME = 64;
const MAX_LEVELS = 8;
/** What all of it may take, in characters of text and in values. */
const MAX_TEXTS = 4_096;
const MAX_VALUES = 200;

/**
 * Parameters as they may be kept: without secrets, and not larger than a few kilobytes. A secret is the value of a field that the
 * action marks with `meta({ secret: true })`, or whose name says so.
 * @param schema of the action; undefined: only the names count
 */
export function maskedParameters(parameters: unknown, schema: JsonSchema | undefined): unknown {
  try {
    return new Masking().of(parameters, schema, 0);
  } catch {
    // A property throws when it is read.
    return MASK;
  }
}

/** Whether the name of a field says that its value is a secret. */
export function namesSecret(name: string): boolean {
  const words = name
    .slice(0, MAX_TEXT)
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z0-9]+/);
  return SECRET_PARTS.test(words.join('')) || words.some((word) => SECRET_WORDS.has(word));
}

class Masking {
  #texts = MAX_TEXTS;
  #values = MAX_VALUES;

  of(value: unknown, schema: JsonSchema | undefined, level: number): unknown {
    if (schema?.writeOnly === true) return MASK;
    if (--this.#values < 0) return CUT;
    if (typeof value === 'string') return this.#text(maskedIfUrl(value), MAX_TEXT);
    if (typeof value === 'bigint') return this.#text(value.toString(), MAX_TEXT);
    if (value === null || typeof value === 'boolean' || typeof value === 'number') return value;
    if (typeof value !== 'object') return undefined;
    if (ArrayBuffer.isView(value)) return `(${value.byteLength} bytes)`;
    if (level === MAX_LEVELS) return CUT;
    return Array.isArray(value) ? this.#list(value, schema, level) : this.#map(value, schema, level);
  }

  #list(list: readonly unknown[], schema: JsonSchema | undefined, level: number): unknown[] {
    const { prefixItems, items } = schema ?? {};
    const masked: unknown[] = [];
    for (const [index, each] of list.entries()) {
      if (this.#values <= 0) {
        masked.push(CUT);
        break;
      }
      masked.push(this.of(each, schemaOf(fieldsOf(prefixItems)[index] ?? items), level + 1));
    }
    return masked;
  }

  #map(map: object, schema: JsonSchema | undefined, level: number): Record<string, unknown> {
    const { properties, additionalProperties } = schema ?? {};
    const masked: [string, unknown][] = [];
    for (const [name, each] of Object.entries(map)) {
      if (this.#values <= 0) {
        masked.push([CUT, CUT]);
        break;
      }
      const field = Object.hasOwn(fieldsOf(properties), name)
        ? fieldsOf(properties)[name]
        : additionalProperties;
      const isSecret = each !== undefined && namesSecret(name);
      masked.push([
        this.#text(name, MAX_NAME),
        isSecret ? this.#masked() : this.of(each, schemaOf(field), level + 1),
      ]);
    }
    // Also a field that is called __proto__.
    return Object.fromEntries(masked);
  }

  #masked(): string {
    this.#values--;
    return MASK;
  }

  #text(text: string, most: number): string {
    const room = Math.min(most, this.#texts);
    const shown = text.length <= room ? text : `${text.slice(0, Math.max(0, room))}${CUT}`;
    this.#texts -= shown.length;
    return shown;
  }
}

function schemaOf(value: unknown): JsonSchema | undefined {
  return typeof value === 'object' && value !== null ? (value as JsonSchema) : undefined;
}
