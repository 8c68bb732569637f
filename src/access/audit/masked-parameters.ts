import { type JsonSchema, schemaOfField, schemaOfItem } from '../../core/json-schema.js';
import { maskedIfUrl } from '../../lib/masked-url.js';
import { namesSecret } from '../../lib/names-secret.js';

const MASK = '***';
/** The rest of a value that is too long. */
const CUT = '...';
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
    const masked: unknown[] = [];
    for (const [index, each] of list.entries()) {
      if (this.#values <= 0) {
        masked.push(CUT);
        break;
      }
      masked.push(this.of(each, schema && schemaOfItem(schema, index), level + 1));
    }
    return masked;
  }

  #map(map: object, schema: JsonSchema | undefined, level: number): Record<string, unknown> {
    const masked: [string, unknown][] = [];
    for (const [name, each] of Object.entries(map)) {
      if (this.#values <= 0) {
        masked.push([CUT, CUT]);
        break;
      }
      const isSecret = each !== undefined && namesSecret(name);
      masked.push([
        this.#text(name, MAX_NAME),
        isSecret ? this.#masked() : this.of(each, schema && schemaOfField(schema, name), level + 1),
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
