/** The value of a setting after the check of its form, before its conversion. */
export type GivenValue = string | number;

/** The part of a yup schema that checks a raw value. It throws a yup `ValidationError`. */
export interface Form<Given extends GivenValue> {
  label: (name: string) => { validateSync: (value: unknown, options: FormOptions) => Given | undefined };
}

interface FormOptions {
  abortEarly: boolean;
}

/** What a setting needs besides its raw value when it is read. */
export interface ReadingContext {
  /** The value of `NODE_ENV`. */
  environment: string;
  /** The content of the file that a setting names. When it cannot be read: undefined, and the problem is reported. */
  contentOf: (name: string, path: string) => Buffer | undefined;
}

/** One setting: a leaf of the table. */
export interface Setting<
  Name extends string = string,
  Given extends GivenValue | undefined = GivenValue | undefined,
  Value = unknown,
> {
  readonly kind: 'setting';
  readonly name: Name;
  /** Its purpose, for the help and docs/settings.md. */
  readonly about: string;
  /** Whether its value must not be shown. It can then also come from a file that `NAME_FILE` names. */
  readonly secret: boolean;
  /** Whether it names a file, whose content is its value in the configuration. */
  readonly isFile: boolean;
  /** Whether spaces around its value belong to it. Only a line break at its end does not. */
  readonly verbatim: boolean;
  /** What separates the items of a list; undefined: it is not a list. */
  readonly separator: string | undefined;
  /** The default that is the same in every environment; undefined: it has none. */
  readonly default: Given | undefined;
  /** The default in an environment; undefined: it has none. */
  readonly defaultIn: (environment: string) => Given | undefined;
  /**
   * Checks the raw value, uses the default when there is none, and converts it to the value in the configuration.
   * @throws ValidationError when its form is wrong
   */
  readonly read: (raw: unknown, context: ReadingContext) => { given: Given | undefined; value: Value };
}

/** A setting that its optional section needs: without a value, the section is undefined. */
export interface RequiredSetting<
  Name extends string = string,
  Given extends GivenValue | undefined = GivenValue | undefined,
  Value = unknown,
> extends Setting<Name, Given, Value> {
  readonly required: true;
}

/** A part of the table, and of the configuration. */
export interface Section {
  readonly [key: string]: Setting | OptionalSection | Section;
}

/** A section that is undefined in the configuration when one of its required settings has no value. */
export interface OptionalSection<Fields extends Section = Section> {
  readonly kind: 'optional';
  readonly fields: Fields;
}

/** The configuration that a table, or a part of it, describes. */
export type Described<Node> =
  Node extends RequiredSetting<string, GivenValue | undefined, infer Value>
    ? Exclude<Value, undefined>
    : Node extends Setting<string, GivenValue | undefined, infer Value>
      ? Value
      : Node extends OptionalSection<infer Fields>
        ? { [Key in keyof Fields]: Described<Fields[Key]> } | undefined
        : { [Key in keyof Node]: Described<Node[Key]> };

/** The names of all the settings in a table or a part of it. */
export type NamesIn<Node> =
  Node extends Setting<infer Name>
    ? Name
    : Node extends OptionalSection<infer Fields>
      ? NamesIn<Fields>
      : { [Key in keyof Node]: NamesIn<Node[Key]> }[keyof Node];

interface About {
  /** Its purpose, for the help and docs/settings.md. */
  about: string;
  secret?: boolean;
  verbatim?: boolean;
}

/** A default that is the same in every environment, or one that depends on the environment or the machine. */
type Default<Given> = { default: Given } | { defaultIn: (environment: string) => Given };

/** Converts the checked value to the value in the configuration. Without it they are the same. */
interface Conversion<Given, Value> {
  as: (given: Given) => Value;
}

interface FileConversion<Value> {
  as: (content: Buffer, path: string) => Value;
}

/** A setting that is a string or a number. Its value is undefined when it is not set and has no default. */
export function setting<Name extends string, Given extends GivenValue, Value>(
  name: Name,
  form: Form<Given>,
  options: About & Default<NoInfer<Given>> & Conversion<NoInfer<Given>, Value>,
): Setting<Name, Given, Value>;
export function setting<Name extends string, Given extends GivenValue>(
  name: Name,
  form: Form<Given>,
  options: About & Default<NoInfer<Given>>,
): Setting<Name, Given, Given>;
export function setting<Name extends string, Given extends GivenValue, Value>(
  name: Name,
  form: Form<Given>,
  options: About & Conversion<NoInfer<Given>, Value>,
): Setting<Name, Given | undefined, Value | undefined>;
export function setting<Name extends string, Given extends GivenValue>(
  name: Name,
  form: Form<Given>,
  options: About & { defaultIn?: (environment: string) => NoInfer<Given> | undefined },
): Setting<Name, Given | undefined, Given | undefined>;
export function setting<Name extends string, Given extends GivenValue, Value>(
  name: Name,
  form: Form<Given>,
  options: About & LeafDefaults<Given> & Partial<Conversion<Given, Value>>,
): Setting<Name, Given | undefined, Given | Value | undefined> {
  const { as } = options;
  return leaf(name, form, {
    ...options,
    convert: (given) => (given === undefined || as === undefined ? given : as(given)),
  });
}

/** A setting that is a list. The configuration file may contain it as a JSON list. */
export function listSetting<Name extends string>(
  name: Name,
  form: Form<string>,
  options: About & { separator: string },
): Setting<Name, string | undefined, string[] | undefined> {
  return leaf(name, form, {
    ...options,
    convert: (given) => (given === undefined ? undefined : separated(given, options.separator)),
  });
}

/** A setting that names a file. Its value in the configuration is the content of that file. */
export function fileSetting<Name extends string, Value>(
  name: Name,
  form: Form<string>,
  options: About & FileConversion<Value>,
): Setting<Name, string | undefined, Value | undefined>;
export function fileSetting<Name extends string>(
  name: Name,
  form: Form<string>,
  options: About,
): Setting<Name, string | undefined, Buffer | undefined>;
export function fileSetting<Name extends string, Value>(
  name: Name,
  form: Form<string>,
  options: About & Partial<FileConversion<Value>>,
): Setting<Name, string | undefined, Buffer | Value | undefined> {
  const { as } = options;
  return leaf(name, form, {
    ...options,
    isFile: true,
    convert: (path, { contentOf }) => {
      const content = path === undefined ? undefined : contentOf(name, path);
      return path === undefined || content === undefined || as === undefined ? content : as(content, path);
    },
  });
}

interface LeafDefaults<Given> {
  default?: Given;
  defaultIn?: (environment: string) => Given | undefined;
}

function leaf<Name extends string, Given extends GivenValue, Value>(
  name: Name,
  form: Form<Given>,
  options: About &
    LeafDefaults<Given> & {
      separator?: string;
      isFile?: boolean;
      convert: (given: Given | undefined, context: ReadingContext) => Value;
    },
): Setting<Name, Given | undefined, Value> {
  const { about, secret = false, isFile = false, verbatim = false, separator, convert } = options;
  const { default: constant, defaultIn = () => constant } = options;
  const named = form.label(name);
  return {
    kind: 'setting',
    name,
    about,
    secret,
    isFile,
    verbatim,
    separator,
    default: constant,
    defaultIn,
    read: (raw, context) => {
      const checked = raw === undefined ? undefined : named.validateSync(raw, { abortEarly: false });
      const given = checked ?? defaultIn(context.environment);
      return { given, value: convert(given, context) };
    },
  };
}

/** Marks a setting that its optional section needs: see `optional`. */
export function required<Name extends string, Given extends GivenValue | undefined, Value>(
  each: Setting<Name, Given, Value>,
): RequiredSetting<Name, Given, Value> {
  return { ...each, required: true };
}

/** A section that is undefined in the configuration when one of its required settings has no value. */
export function optional<Fields extends Section>(fields: Fields): OptionalSection<Fields> {
  return { kind: 'optional', fields };
}

export function isSetting(node: Section[string]): node is Setting {
  return node.kind === 'setting';
}

export function isOptional(node: Section[string]): node is OptionalSection {
  return node.kind === 'optional';
}

export function isRequired(each: Setting): boolean {
  return 'required' in each;
}

/** The settings of a section, in the order of the table. */
export function settingsIn(section: Section): Setting[] {
  return Object.values(section).flatMap((node) => {
    if (isSetting(node)) return [node];
    return settingsIn(isOptional(node) ? node.fields : node);
  });
}

/** The items of a list, without empty items. */
export function separated(value: string, separator = ','): string[] {
  return value
    .split(separator)
    .map((each) => each.trim())
    .filter((each) => each !== '');
}
