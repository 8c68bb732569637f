import { existsSync, readFileSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import { type InferType, number, object, string, ValidationError } from 'yup';
import { COLUMN_CHARACTERS, isModuleText } from '../openaperture/columns.js';
import type { InstallationSettings } from '../openaperture/installation.js';
import { HostPolicy } from '../network/connection-policy.js';

const WHOLE_MEGABYTE = 1024 * 1024;

const text = () =>
  string()
    .typeError('${path} must be text')
    // Not trim(), which fails on what is no text.
    .transform((value: unknown) => (typeof value === 'string' ? value.trim() : value))
    .min(1, '${path} must not be empty');
const count = (least: number, most: number) =>
  number()
    .typeError('${path} must be a whole number')
    .integer('${path} must be a whole number')
    .min(least, '${path} must be at least ${min}')
    .max(most, '${path} must be at most ${max}');
const httpUrl = (name: string) =>
  text()
    .test('http', `${name} must be an http:// or https:// URL`, isHttpUrl)
    .test('open', `${name} must not hold a user name or password`, holdsNoCredentials);
const flag = () => string().oneOf(['true', 'false'], '${path} must be true or false');

/** Every setting: its form, its default, and what it is for. The table in the README is checked against it. */
const SETTINGS = object({
  NODE_ENV: text()
    .default('development')
    .meta({ about: 'Names the configuration file; `production` changes defaults.' }),
  AMQP_URL: text()
    .test(
      'amqp',
      'AMQP_URL must be one or several amqp:// or amqps:// URLs, separated by commas; in a password, write , / @ as %2C %2F %40',
      (value) => value === undefined || (listed(value).length > 0 && listed(value).every(isAmqpUrl)),
    )
    .meta({ about: 'The RabbitMQ broker; several, separated by commas, are tried in turn.', secret: true }),
  AMQP_CA_FILE: text().meta({ about: 'Certificates (PEM) of the authorities to trust for amqps.' }),
  AMQP_CERT_FILE: text().meta({ about: 'Client certificate (PEM) for amqps; goes with `AMQP_KEY_FILE`.' }),
  AMQP_KEY_FILE: text().meta({ about: 'Private key (PEM) of the client certificate.' }),
  MANAGER_URL: httpUrl('MANAGER_URL').meta({
    about: "An OpenAperture Manager's API. With it the brokers come from there, and answers go there too.",
  }),
  OAUTH_LOGIN_URL: httpUrl('OAUTH_LOGIN_URL').meta({
    about: 'Where the tokens for the Manager are given out.',
  }),
  OAUTH_CLIENT_ID: text().meta({ about: 'Who asks for them.' }),
  OAUTH_CLIENT_SECRET: text().meta({ about: 'The secret that goes with it.', secret: true }),
  EXCHANGE_ID: count(1, Number.MAX_SAFE_INTEGER).meta({
    about: 'The exchange of the installation that is served.',
  }),
  BROKER_ID: count(1, Number.MAX_SAFE_INTEGER).meta({
    about: 'The broker of the installation that is served.',
  }),
  MODULE_TYPE: text().default('fleet_manager').meta({ about: 'What this instance registers as.' }),
  QUEUE_NAME: text()
    .matches(
      /^(?!amq\.)[^\s]{1,200}$/,
      'QUEUE_NAME must be the name of a queue, without spaces and not amq.*',
    )
    .default('fleet_manager')
    .meta({ about: 'The queue that requests are taken from.' }),
  PREFETCH: count(4, 10_000).default(200).meta({ about: 'How many requests are held at once.' }),
  CONCURRENCY: count(1, 10_000).default(50).meta({ about: 'How many of them run at once.' }),
  CLUSTER_CONCURRENCY: count(1, 10_000)
    .default(20)
    .meta({ about: 'How many run at once against one cluster.' }),
  ETCD_DISCOVERY_URL: httpUrl('ETCD_DISCOVERY_URL').default('https://discovery.etcd.io').meta({
    about:
      "The discovery service that knows clusters by their etcd tokens; or an etcd's `/v2/keys/discovery`.",
  }),
  FLEET_API_PORT: count(1, 65_535).default(7002).meta({ about: "The port of the clusters' fleet APIs." }),
  CLUSTERS_FILE: text().meta({
    about: 'JSON file of clusters without discovery: `{"name": ["http://10.0.0.1:49153"]}`.',
  }),
  ALLOWED_HOSTS: text()
    .test(
      'hosts',
      ({ value }: { value: string }) => `ALLOWED_HOSTS: ${policyProblem(value)}`,
      (value) => policyProblem(value) === undefined,
    )
    .meta({
      about:
        'Where the service may connect: addresses, CIDR ranges, names with `*`. Unset: anywhere but special addresses.',
      separator: ',',
    }),
  SSH_USER: text().default('core').meta({ about: 'The login name on the machines.' }),
  SSH_PORT: count(1, 65_535).default(22).meta({ about: 'The port of their SSH servers.' }),
  SSH_KEY_FILE: text().meta({ about: 'The private key to log in with; tried before the agent.' }),
  SSH_PASSPHRASE: text().meta({ about: 'What opens the private key.', secret: true }),
  SSH_AUTH_SOCK: text().meta({ about: 'The socket of an ssh-agent.' }),
  SSH_KNOWN_HOSTS: text().meta({ about: 'The file of known host keys. Unset: `~/.ssh/known_hosts`.' }),
  SSH_HOST_KEYS: string()
    .oneOf(['strict', 'accept-new', 'off'], 'SSH_HOST_KEYS must be strict, accept-new or off')
    .default('strict')
    .meta({
      about:
        '`strict`: only hosts whose key is known; `accept-new`: writes down keys of new hosts; `off`: no check, anyone can pose as a host.',
    }),
  SSH_SUDO: flag().default('false').meta({ about: '`true` runs commands on machines with `sudo -n`.' }),
  PLUGIN_PATHS: text().meta({
    about: 'Further directories of plugin folders, separated by `:`.',
    separator: ':',
  }),
  READ_ONLY: flag()
    .default('false')
    .meta({ about: '`true` leaves out every action that changes something.' }),
  ACTIONS: text()
    .test(
      'some',
      'ACTIONS must name actions, separated by commas',
      (value) => value === undefined || listed(value).length > 0,
    )
    .meta({ about: 'The only actions to serve, separated by commas. Unset: all.', separator: ',' }),
  HTTP_HOST: text()
    .default('127.0.0.1')
    .meta({ about: 'Where the HTTP gateway listens; off loopback it needs `HTTP_TOKEN`.' }),
  HTTP_PORT: string()
    .matches(/^(off|\d{1,5})$/, 'HTTP_PORT must be a port, 0 for a free one, or off')
    .default('8080')
    .meta({ about: 'Its port; `0` picks a free one, `off` turns it off.' }),
  HTTP_TOKEN: text()
    .min(16, 'HTTP_TOKEN must have at least 16 characters')
    .meta({ about: 'What callers of the gateway must send as `Authorization: Bearer`.', secret: true }),
  MAX_MESSAGE_BYTES: count(1_024, 128 * WHOLE_MEGABYTE)
    .default(WHOLE_MEGABYTE)
    .meta({ about: 'The largest request that is read.' }),
  MAX_ANSWER_BYTES: count(1_024, 128 * WHOLE_MEGABYTE)
    .default(16 * WHOLE_MEGABYTE)
    .meta({ about: 'The largest answer that is sent.' }),
  MAX_RECORD_BYTES: count(1_024, 128 * WHOLE_MEGABYTE)
    .default(7_500_000)
    .meta({
      about:
        'The largest answer that is saved in a record of the Manager: bytes of JSON, with the envelope. The Manager accepts 8,000,000.',
    }),
  SHUTDOWN_GRACE_SECONDS: count(0, 3_600)
    .default(20)
    .meta({ about: 'How long running requests may take to end at shutdown.' }),
  LOG_LEVEL: string()
    .oneOf(['error', 'warn', 'info', 'debug'], 'LOG_LEVEL must be error, warn, info or debug')
    .default('info')
    .meta({ about: 'The least important lines that are logged.' }),
  LOG_FORMAT: string()
    .oneOf(['json', 'text'], 'LOG_FORMAT must be json or text')
    .meta({ about: '`json` or `text`. Unset: `json` in production.' }),
  HOSTNAME: text().meta({ about: "The name this instance goes by. Unset: the machine's." }),
});

/** The settings that name a file whose content is wanted. */
type SettingFile = 'AMQP_CA_FILE' | 'AMQP_CERT_FILE' | 'AMQP_KEY_FILE' | 'CLUSTERS_FILE' | 'SSH_KEY_FILE';

/** Settings by name, as they were given: text or numbers, defaults filled in. */
type Settings = InferType<typeof SETTINGS>;

/** What the service runs with. */
export interface Configuration {
  environment: string;
  /** Undefined: nothing is configured, so the service runs as a sandbox. */
  amqp: { urls: string[]; tls: { ca?: Buffer; cert?: Buffer; key?: Buffer } } | undefined;
  /** The OpenAperture installation that the service is a module of; undefined: none. */
  openaperture: InstallationSettings | undefined;
  queue: string;
  prefetch: number;
  concurrency: number;
  clusterConcurrency: number;
  discoveryUrl: string;
  fleetPort: number;
  /** The text of the clusters file. */
  clusters: string | undefined;
  allowedHosts: string[] | undefined;
  ssh: {
    user: string;
    port: number;
    privateKey: Buffer | undefined;
    passphrase: string | undefined;
    agentSocket: string | undefined;
    knownHostsFile: string;
    hostKeys: 'strict' | 'accept-new' | 'off';
    sudo: boolean;
  };
  pluginPaths: string[];
  readOnly: boolean;
  actions: string[] | undefined;
  /** Undefined: no HTTP gateway. */
  http: { host: string; port: number; token: string | undefined } | undefined;
  maxMessageBytes: number;
  maxAnswerBytes: number;
  shutdownGraceMs: number;
  log: { level: 'error' | 'warn' | 'info' | 'debug'; format: 'json' | 'text' };
  hostname: string;
}

/** Settings that cannot be used; the message lists every problem, a line each. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration cannot be used:\n${problems.map((each) => `  - ${each}`).join('\n')}`);
    this.problems = problems;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Where settings come from: the environment, and the folder that holds `config/`. */
export interface ConfigurationSource {
  env: Environment;
  directory: string;
}

/**
 * Reads the configuration: environment variables over `config/$NODE_ENV.json`; a secret also from the file that
 * `NAME_FILE` names.
 * @param serving whether it is for the service, which must be told more than a caller
 * @throws ConfigurationError with all the problems at once
 */
export function readConfiguration(source: ConfigurationSource, { serving = false } = {}): Configuration {
  const problems: string[] = [];
  const { given, unread } = gathered(source, problems);
  const checked = validated(given, problems);
  const { settings } = checked;
  const faulty = new Set([...checked.faulty, ...unread]);
  const read = (name: SettingFile) => fileOf(name, settings[name], problems);
  const tls = { ca: read('AMQP_CA_FILE'), cert: read('AMQP_CERT_FILE'), key: read('AMQP_KEY_FILE') };
  const files = { tls, clusters: read('CLUSTERS_FILE')?.toString('utf8'), privateKey: read('SSH_KEY_FILE') };
  problems.push(...contradictions(settings, faulty), ...(serving ? hindrances(settings, faulty) : []));
  if (problems.length > 0) throw new ConfigurationError(problems);
  return configurationOf(settings, files);
}

/** One setting as `fleet-manager config` shows it. */
export interface ShownSetting {
  name: string;
  /** What the service runs with; masked when it is a secret. */
  value: string | number | undefined;
  from: 'environment' | 'file' | 'default' | 'unset';
  /** What it is when it is not set; undefined: nothing, or what `about` says. */
  default: string | undefined;
  about: string;
}

/** Every setting with where its value comes from, secrets masked. Problems are not reported here. */
export function describeSettings(source: ConfigurationSource): ShownSetting[] {
  const fromFile = fileSettings(source, []);
  const { given: all } = gathered(source, []);
  const environment = typeof all.NODE_ENV === 'string' ? all.NODE_ENV : 'development';
  const dependent: Partial<Record<string, string>> = dependentDefaults(environment);
  return Object.entries(SETTINGS.describe().fields).map(([name, field]) => {
    const { secret, about } = aboutOf(field);
    const given = all[name];
    const standard = 'default' in field && field.default !== undefined ? shown(field.default) : undefined;
    const whenUnset = standard ?? dependent[name];
    // An empty variable counts as unset.
    const fromEnvironment = Boolean(source.env[name] || (secret && source.env[`${name}_FILE`]));
    const from = fromEnvironment
      ? 'environment'
      : name in fromFile
        ? 'file'
        : whenUnset === undefined
          ? 'unset'
          : 'default';
    const value = given === undefined ? whenUnset : secret ? masked(shown(given)) : withoutUser(shown(given));
    return { name, value, from, default: standard, about };
  });
}

/** What settings are when they are not set, where that depends on more than this code. */
function dependentDefaults(environment: string): {
  LOG_FORMAT: 'json' | 'text';
  HOSTNAME: string;
  SSH_KNOWN_HOSTS: string;
} {
  return {
    LOG_FORMAT: environment === 'production' ? 'json' : 'text',
    HOSTNAME: hostname(),
    SSH_KNOWN_HOSTS: join(homedir(), '.ssh', 'known_hosts'),
  };
}

function hostnameOf({ HOSTNAME, NODE_ENV }: Settings): string {
  return HOSTNAME ?? dependentDefaults(NODE_ENV).HOSTNAME;
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** A user name and password do not belong into any URL but a broker's; where they stand in one they are not shown. */
function withoutUser(value: string): string {
  return value.replace(/^(\s*[a-z][a-z0-9+.-]*:\/\/).*@/i, '$1***@');
}

function masked(value: string): string {
  // A broker's address is worth seeing; what opens it is not, nor what only may be an address.
  const urls = value.split(',').map((each) => /^\s*(amqps?:\/\/)(.*@)?([^@]*)$/.exec(each));
  return urls.includes(null)
    ? '***'
    : urls.map((url) => `${url?.[1]}${url?.[2] === undefined ? '' : '***@'}${url?.[3]}`).join(',');
}

/** @returns its `separator` where it is a list, which the file may also give as one */
function aboutOf(field: object): { secret: boolean; about: string; separator: string | undefined } {
  const meta: unknown = 'meta' in field ? field.meta : undefined;
  const map: Record<string, unknown> = typeof meta === 'object' && meta !== null ? { ...meta } : {};
  return {
    secret: map.secret === true,
    about: typeof map.about === 'string' ? map.about : '',
    separator: typeof map.separator === 'string' ? map.separator : undefined,
  };
}

/** The settings as they are given, and the names of those whose value is not known, which has been told already. */
function gathered(
  { env, directory }: ConfigurationSource,
  problems: string[],
): { given: Record<string, unknown>; unread: Set<string> } {
  const given: Record<string, unknown> = fileSettings({ env, directory }, problems);
  const unread = new Set<string>();
  for (const [name, field] of Object.entries(SETTINGS.describe().fields)) {
    // An empty variable is how many tools say that it is not set.
    if (env[name] !== undefined && env[name] !== '') given[name] = env[name];
    const file = env[`${name}_FILE`];
    if (!aboutOf(field).secret || file === undefined || file === '') continue;
    if (env[name]) {
      problems.push(`${name} and ${name}_FILE are both set: set one of them`);
      continue;
    }
    given[name] = fileOf(`${name}_FILE`, file, problems)?.toString('utf8').trim();
    if (given[name] === undefined) unread.add(name);
  }
  return { given, unread };
}

function fileSettings({ env, directory }: ConfigurationSource, problems: string[]): Record<string, unknown> {
  const file = join(directory, 'config', `${env.NODE_ENV || 'development'}.json`);
  if (!existsSync(file)) return {};
  try {
    const content: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof content !== 'object' || content === null || Array.isArray(content))
      throw new Error('it is not a JSON object');
    const isKnown = (name: string) => Object.hasOwn(SETTINGS.fields, name);
    for (const name of Object.keys(content))
      if (!isKnown(name)) problems.push(`${file}: there is no setting ${name}`);
    const known = Object.entries(content).filter(([name]) => isKnown(name));
    return Object.fromEntries(known.map(([name, value]) => [name, joined(name, value)]));
  } catch (error) {
    problems.push(`${file} cannot be read: ${readProblem(error)}`);
    return {};
  }
}

/** A list in the file, as the text that the variable would have. */
function joined(name: string, value: unknown): unknown {
  const field: object = SETTINGS.describe().fields[name] ?? {};
  const { separator } = aboutOf(field);
  if (separator === undefined || !Array.isArray(value)) return value;
  const isItem = (each: unknown) => typeof each === 'string' && !each.includes(separator);
  // What is no list of texts is told as any other value that is no text.
  return value.every(isItem) ? value.join(separator) : value;
}

function fileOf(name: string, path: string | undefined, problems: string[]): Buffer | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path);
  } catch (error) {
    problems.push(`${name} names a file that cannot be read: ${readProblem(error)}`);
    return undefined;
  }
}

function readProblem(error: unknown): string {
  // The parser's own message quotes the file, which may hold a secret.
  if (error instanceof SyntaxError) return 'it is not valid JSON';
  return error instanceof Error ? error.message : String(error);
}

/** The settings without those that are faulty, so that what is wrong with the others can be told too. */
function validated(
  given: Record<string, unknown>,
  problems: string[],
): { settings: Settings; faulty: ReadonlySet<unknown> } {
  try {
    return { settings: SETTINGS.validateSync(given, { abortEarly: false }), faulty: new Set() };
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    problems.push(...error.errors);
    const faulty = new Set<unknown>(error.inner.map(({ path }) => path));
    const sound = Object.entries(given).filter(([name]) => !faulty.has(name));
    return { settings: SETTINGS.validateSync(Object.fromEntries(sound)), faulty };
  }
}

function contradictions(settings: Settings, faulty: ReadonlySet<unknown>): string[] {
  const problems: string[] = [];
  const missing = missingOfInstallation(settings, faulty);
  if (missing.length > 0) {
    problems.push(
      `an OpenAperture installation is set half: set ${missing.join(', ')} too, or unset the others`,
    );
  }
  if (settings.MANAGER_URL !== undefined) {
    const names = { HOSTNAME: hostnameOf(settings), MODULE_TYPE: settings.MODULE_TYPE };
    for (const [name, value] of Object.entries(names)) {
      if (!isModuleText(value))
        problems.push(
          `${name} must be at most ${COLUMN_CHARACTERS} printable ASCII characters: OpenAperture keeps no others of a module`,
        );
    }
  }
  const unused = OF_TLS.filter((name) => settings[name] !== undefined);
  if (settings.MANAGER_URL !== undefined && unused.length > 0) {
    problems.push(
      `${unused.join(', ')} set, but with MANAGER_URL no broker is connected to by amqps: the Manager knows none; unset ${unused.length === 1 ? 'it' : 'them'}`,
    );
  }
  if ((settings.AMQP_CERT_FILE === undefined) !== (settings.AMQP_KEY_FILE === undefined)) {
    problems.push('AMQP_CERT_FILE and AMQP_KEY_FILE go together: set both or none');
  }
  if (settings.HTTP_PORT !== 'off' && Number(settings.HTTP_PORT) > 65_535)
    problems.push('HTTP_PORT must be at most 65535');
  return problems;
}

/** Settings that a sandbox would pass over. */
const OF_REAL_CLUSTERS = [
  'AMQP_CA_FILE',
  'AMQP_CERT_FILE',
  'ETCD_DISCOVERY_URL',
  'FLEET_API_PORT',
  'CLUSTERS_FILE',
  'ALLOWED_HOSTS',
] as const;

const OF_TLS = ['AMQP_CA_FILE', 'AMQP_CERT_FILE', 'AMQP_KEY_FILE'] as const;

const OF_INSTALLATION = [
  'MANAGER_URL',
  'OAUTH_LOGIN_URL',
  'OAUTH_CLIENT_ID',
  'OAUTH_CLIENT_SECRET',
  'EXCHANGE_ID',
  'BROKER_ID',
] as const;

/** The settings that an installation lacks, when some of them are set. */
function missingOfInstallation(settings: Settings, faulty: ReadonlySet<unknown>): string[] {
  const missing = OF_INSTALLATION.filter((name) => settings[name] === undefined && !faulty.has(name));
  return missing.length === OF_INSTALLATION.length ? [] : missing;
}

function installationOf(settings: Settings): InstallationSettings | undefined {
  const {
    MANAGER_URL: managerUrl,
    OAUTH_LOGIN_URL: url,
    OAUTH_CLIENT_ID: clientId,
    OAUTH_CLIENT_SECRET: clientSecret,
    EXCHANGE_ID: exchangeId,
    BROKER_ID: brokerId,
    MODULE_TYPE: moduleType,
    MAX_RECORD_BYTES: maxRecordBytes,
  } = settings;
  if (managerUrl === undefined || url === undefined || clientId === undefined) return undefined;
  if (clientSecret === undefined || exchangeId === undefined || brokerId === undefined) return undefined;
  const oauth = { url, clientId, clientSecret };
  return { managerUrl, oauth, exchangeId, brokerId, moduleType, maxRecordBytes };
}

/** What keeps the service, though not a caller, from running with these settings. */
function hindrances(settings: Settings, faulty: ReadonlySet<unknown>): string[] {
  const problems: string[] = [];
  const hasInstallation = OF_INSTALLATION.some((name) => settings[name] !== undefined || faulty.has(name));
  if (settings.AMQP_URL === undefined && !faulty.has('AMQP_URL') && !hasInstallation) {
    const standard: Partial<Settings> = SETTINGS.getDefault();
    const needless = OF_REAL_CLUSTERS.filter((name) => settings[name] !== standard[name]);
    if (!['development', 'test'].includes(settings.NODE_ENV)) {
      problems.push(
        `AMQP_URL is not set: without it the service is a sandbox, which is refused with NODE_ENV=${settings.NODE_ENV}; set AMQP_URL to your RabbitMQ, such as amqp://user:password@host:5672`,
      );
    } else if (needless.length > 0) {
      problems.push(
        `${needless.join(' and ')} ${needless.length === 1 ? 'is' : 'are'} set, which a sandbox would pass over: set AMQP_URL too, to serve real clusters; or unset ${needless.length === 1 ? 'it' : 'them'}, to run the sandbox`,
      );
    }
  }
  const isOpen = settings.HTTP_TOKEN === undefined && !faulty.has('HTTP_TOKEN');
  if (settings.HTTP_PORT !== 'off' && !isLoopback(settings.HTTP_HOST) && isOpen) {
    problems.push(
      `HTTP_HOST is ${settings.HTTP_HOST}, which others can reach: set HTTP_TOKEN, or leave HTTP_HOST at 127.0.0.1`,
    );
  }
  return problems;
}

function configurationOf(
  settings: Settings,
  {
    tls,
    clusters,
    privateKey,
  }: {
    tls: { ca?: Buffer; cert?: Buffer; key?: Buffer };
    clusters: string | undefined;
    privateKey: Buffer | undefined;
  },
): Configuration {
  const { NODE_ENV: environment, LOG_LEVEL: level } = settings;
  const standard = dependentDefaults(environment);
  const optionalList = (value: string | undefined) => (value === undefined ? undefined : listed(value));
  return {
    environment,
    amqp: settings.AMQP_URL === undefined ? undefined : { urls: listed(settings.AMQP_URL), tls },
    openaperture: installationOf(settings),
    queue: settings.QUEUE_NAME,
    prefetch: settings.PREFETCH,
    concurrency: settings.CONCURRENCY,
    clusterConcurrency: settings.CLUSTER_CONCURRENCY,
    discoveryUrl: settings.ETCD_DISCOVERY_URL,
    fleetPort: settings.FLEET_API_PORT,
    clusters,
    ssh: {
      user: settings.SSH_USER,
      port: settings.SSH_PORT,
      privateKey,
      passphrase: settings.SSH_PASSPHRASE,
      agentSocket: settings.SSH_AUTH_SOCK,
      knownHostsFile: settings.SSH_KNOWN_HOSTS ?? standard.SSH_KNOWN_HOSTS,
      hostKeys: settings.SSH_HOST_KEYS,
      sudo: settings.SSH_SUDO === 'true',
    },
    allowedHosts: optionalList(settings.ALLOWED_HOSTS),
    pluginPaths: (settings.PLUGIN_PATHS ?? '').split(':').filter((each) => each !== ''),
    readOnly: settings.READ_ONLY === 'true',
    actions: optionalList(settings.ACTIONS),
    http:
      settings.HTTP_PORT === 'off'
        ? undefined
        : { host: settings.HTTP_HOST, port: Number(settings.HTTP_PORT), token: settings.HTTP_TOKEN },
    maxMessageBytes: settings.MAX_MESSAGE_BYTES,
    maxAnswerBytes: settings.MAX_ANSWER_BYTES,
    shutdownGraceMs: settings.SHUTDOWN_GRACE_SECONDS * 1_000,
    log: { level, format: settings.LOG_FORMAT ?? standard.LOG_FORMAT },
    hostname: hostnameOf(settings),
  };
}

function listed(value: string | undefined): string[] {
  return (value ?? '')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');
}

function protocolOf(url: string): string {
  return URL.canParse(url) ? new URL(url).protocol : '';
}

function isAmqpUrl(url: string): boolean {
  if (!/^amqps?:\/\//.test(url) || !URL.canParse(url)) return false;
  // A sign that ends the host's part early leaves the rest of the password behind it, where it would be shown.
  const { host, pathname, search, hash } = new URL(url);
  return host !== '' && !`${pathname}${search}${hash}`.includes('@');
}

function isHttpUrl(value: string | undefined): boolean {
  return value === undefined || /^https?:$/.test(protocolOf(value));
}

function holdsNoCredentials(value: string | undefined): boolean {
  if (value === undefined || !URL.canParse(value)) return true;
  const { username, password } = new URL(value);
  return username === '' && password === '';
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function policyProblem(value: string | undefined): string | undefined {
  try {
    void new HostPolicy(value === undefined ? undefined : listed(value));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
