import { type AnyObject, type ObjectSchema, type Schema, ValidationError } from 'yup';
import type { Action } from '../api/action.js';
import { copyPlain } from '../lib/copy-plain.js';
import { deepFrozen } from '../lib/deep-frozen.js';
import { fieldsOf } from '../lib/fields-of.js';
import { jsonSchemaOf } from './json-schema.js';
import { strictSchema, withoutValue } from './parameters.js';

/** A setting that an action declares. */
export interface DeclaredSetting {
  /** Its name in the environment and in the configuration file, such as `PLUGIN_COUNT_UNITS_MAX_AGE`. */
  readonly name: string;
  /** Its purpose, for people. */
  readonly about: string;
  /** Whether its value must not be shown. It can then also come from the file that `NAME_FILE` names. */
  readonly secret: boolean;
  /** Undefined: it has none. */
  readonly default: unknown;
  /** The name of the action. */
  readonly action: string;
  /** Its name in `request.settings`. */
  readonly field: string;
  /** Made by `strictSchema`. */
  readonly schema: Schema;
}

/** The settings of one action, which get their values when it is known whether it is served. */
export interface DeclaredSettings {
  readonly all: readonly DeclaredSetting[];
  /**
   * Makes the value of `request.settings`.
   * @param given what is given, by the field
   * @returns the values, frozen; or the problems that they have together
   */
  readonly valuesOf: (
    given: ReadonlyMap<string, unknown>,
  ) => { values: SettingValues } | { problems: string[] };
}

/** The settings of an action, by field. */
export type SettingValues = Readonly<Record<string, unknown>>;

/** What is given for the settings of the served actions. */
export interface ReadSettings {
  /** By the name of the action. */
  readonly values: ReadonlyMap<string, SettingValues>;
  /** A sentence for each setting that is wrong or missing, and for each that no action declares. */
  readonly problems: readonly string[];
  /** Variables that look like a setting of a served action, and are none. */
  readonly undeclared: readonly UndeclaredVariable[];
}

export interface UndeclaredVariable {
  readonly variable: string;
  /** What may have been meant. */
  readonly meant: string | undefined;
}

/** The settings of loaded actions. */
export interface LoadedSettings {
  readonly served: ReadonlyMap<string, DeclaredSettings>;
  /** Of those that are not served: their values are not read. */
  readonly others: ReadonlyMap<string, DeclaredSettings>;
  /** Whether all plugins could be loaded, so that what is not declared is known to be a mistake. */
  readonly isComplete: boolean;
}

/** Reads the settings of plugins from wherever they are given. */
export type ReadPluginSettings = (loaded: LoadedSettings) => ReadSettings;

export const NO_VALUES: SettingValues = Object.freeze({});
export const NO_SETTINGS: DeclaredSettings = { all: [], valuesOf: () => ({ values: NO_VALUES }) };

const FIELD = /^[a-z][A-Za-z0-9_]*$/;

/** What the names of all settings of an action begin with. */
export function settingPrefix(action: string): string {
  return `PLUGIN_${action.toUpperCase()}_`;
}

/**
 * Checks what an action declares.
 * @throws Error that says what is wrong
 */
export function declaredSettings({
  name: action,
  settings,
}: Pick<Action, 'name' | 'settings'>): DeclaredSettings {
  if (settings === undefined) return NO_SETTINGS;
  const schema = strictSchema(settings);
  // Everything must have a description, and be JSON.
  const described = fieldsOf(jsonSchemaOf(schema).properties);
  const all = Object.entries(schema.fields).map(([field, each]) => {
    if (!FIELD.test(field)) throw new Error(`the field '${field}' must be camelCase or snake_case`);
    return declared(action, field, { schema: each as Schema, isSecret: holdsSecret(described[field]) });
  });
  const isSecret = all.some(({ secret }) => secret);
  return { all, valuesOf: (given) => valuesOf(schema, given, isSecret) };
}

function declared(
  action: string,
  field: string,
  { schema, isSecret }: { schema: Schema; isSecret: boolean },
): DeclaredSetting {
  const { description } = schema.meta() as Record<string, unknown>;
  const name = `${settingPrefix(action)}${upperSnake(field)}`;
  return {
    name,
    about: String(description),
    secret: isSecret,
    default: schema.getDefault(),
    action,
    field,
    schema,
  };
}

/** Whether a value, or anything in it, is marked as a secret. */
function holdsSecret(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return false;
  const { writeOnly, properties, items, prefixItems, additionalProperties } = fieldsOf(schema);
  const inner = [
    items,
    additionalProperties,
    ...Object.values(fieldsOf(properties)),
    ...Object.values(fieldsOf(prefixItems)),
  ];
  return writeOnly === true || inner.some(holdsSecret);
}

function upperSnake(field: string): string {
  return field
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1_$2')
    .toUpperCase();
}

/**
 * The value of a setting, checked.
 * @param raw as in the file; a text from elsewhere is first read as `fromText` does
 * @returns the value, or what is wrong with it, which does not contain it
 */
export function checkedSetting(
  { name, action, schema, about, secret }: DeclaredSetting,
  raw: unknown,
): { value: unknown } | { problems: string[] } {
  if (raw === undefined && !isValid(schema, raw))
    return { problems: [`${name} is not set, and the action ${action} needs it: ${about}`] };
  try {
    schema.label(name).validateSync(raw, { strict: true, abortEarly: false, disableStackTrace: true });
    return { value: raw };
  } catch (error) {
    if (!ValidationError.isError(error)) throw error;
    // The message of a test of its own may quote the value.
    if (secret) return { problems: [`${name} is not what its action accepts: ${about}`] };
    const problems = (error.inner.length > 0 ? error.inner : [error]).map((each) =>
      each.type === 'typeError'
        ? `${each.path || name} must be ${TYPES[String(each.params?.type)] ?? 'of another type'}`
        : withoutValue(each.message.replace(/^this\b/, () => name)),
    );
    return { problems: problems.map((each) => (each.includes(name) ? each : `${name}: ${each}`)) };
  }
}

/** How an operator writes a value of a type, in the environment and in the configuration file. */
const TYPES: Readonly<Record<string, string>> = {
  number: 'a number',
  boolean: 'true or false',
  string: 'a text',
  array: 'a list: its items separated by commas, or a list of JSON',
  object: 'an object of JSON',
};

function isValid(schema: Schema, value: unknown): boolean {
  return schema.isValidSync(value, { strict: true });
}

/**
 * The value that a text stands for, by the type of the setting. A text that is none of that type stays as it is: the check of the
 * setting then reports it.
 */
export function fromText(schema: Schema, text: string): unknown {
  switch (schema.type) {
    case 'string':
      return text;
    case 'number':
      return /^[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : text;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    case 'array': {
      const { innerType } = schema as Schema & { innerType?: Schema };
      if (innerType === undefined || !['string', 'number', 'boolean'].includes(innerType.type))
        return fromJson(text);
      const list = fromJson(text);
      // A pattern can begin with a bracket too.
      if (Array.isArray(list) && list.every((each) => typeof each === innerType.type)) return list;
      const items = text.split(',').map((each) => each.trim());
      return items.filter((each) => each !== '').map((each) => fromText(innerType, each));
    }
    default:
      return fromJson(text);
  }
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function valuesOf(
  schema: ObjectSchema<AnyObject>,
  given: ReadonlyMap<string, unknown>,
  isSecret: boolean,
): { values: SettingValues } | { problems: string[] } {
  const copy = copyPlain(Object.fromEntries(given));
  try {
    // Each is valid, so that only a test of all of them can fail.
    schema.validateSync(copy, { strict: true, disableStackTrace: true });
  } catch (error) {
    if (!ValidationError.isError(error)) throw error;
    // The message of a test of its own may quote the values.
    return { problems: isSecret ? ['they do not go together'] : error.errors.map(withoutValue) };
  }
  const values: SettingValues = schema.cast(copy);
  return { values: deepFrozen(values) };
}
