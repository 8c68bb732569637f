import { maskedIfUrl } from '../lib/masked-url.js';
import { COLUMN_CHARACTERS, isModuleText } from '../openaperture/columns.js';
import { leastMemoryBudget } from './memory-shares.js';
import type { GivenValue } from './setting.js';
import { ALL_SETTINGS, type SettingName } from './settings.js';

/** The values of the settings, defaults included, and the names of the settings whose form is wrong. */
export interface CheckedSettings {
  values: { get(name: SettingName): GivenValue | undefined };
  invalid: { has(name: SettingName): boolean };
}

/** Settings that a sandbox would ignore. */
const REAL_CLUSTER_SETTINGS = [
  'AMQP_CA_FILE',
  'AMQP_CERT_FILE',
  'ETCD_DISCOVERY_URL',
  'FLEET_API_PORT',
  'CLUSTERS_FILE',
  'ALLOWED_HOSTS',
  'CLAIMS_ETCD_URL',
  'AMQP_MANAGEMENT_URL',
] as const satisfies SettingName[];

/** Settings that `SANDBOX_CLUSTER` would ignore. */
const REAL_MACHINE_SETTINGS = [
  'ETCD_DISCOVERY_URL',
  'FLEET_API_PORT',
  'CLUSTERS_FILE',
  'ALLOWED_HOSTS',
  'SSH_USER',
  'SSH_PORT',
  'SSH_KEY_FILE',
] as const satisfies SettingName[];

const TLS_SETTINGS = ['AMQP_CA_FILE', 'AMQP_CERT_FILE', 'AMQP_KEY_FILE'] as const satisfies SettingName[];

const CLAIMS_SETTINGS = [
  'CLAIMS_ETCD_USER',
  'CLAIMS_ETCD_PASSWORD',
  'CLAIMS_ETCD_CA_FILE',
] as const satisfies SettingName[];

const INSTALLATION_SETTINGS = [
  'MANAGER_URL',
  'OAUTH_LOGIN_URL',
  'OAUTH_CLIENT_ID',
  'OAUTH_CLIENT_SECRET',
  'EXCHANGE_ID',
  'BROKER_ID',
] as const satisfies SettingName[];

/** Problems of combinations: each setting is valid alone, but not with the others. */
export function problemsBetween(settings: CheckedSettings): string[] {
  return [
    ...problemsOfInstallation(settings),
    ...problemsOfCertificates(settings),
    ...problemsOfClaims(settings),
    ...problemsOfQueues(settings),
    ...problemsOfAudit(settings),
    ...(isListening(settings) && Number(settings.values.get('HTTP_PORT')) > 65_535
      ? ['HTTP_PORT must be at most 65535']
      : []),
    ...(Number(settings.values.get('METRICS_PORT')) > 65_535 ? ['METRICS_PORT must be at most 65535'] : []),
  ];
}

/** Problems that matter to `serve`, but not to `call`. */
export function problemsOfServing(settings: CheckedSettings): string[] {
  return [
    ...problemsOfSandbox(settings),
    ...problemsOfSandboxCluster(settings),
    ...problemsOfBrokers(settings),
    ...problemsOfGateway(settings),
    ...problemsOfMetrics(settings),
    ...problemsOfMemory(settings),
  ];
}

function problemsOfInstallation({ values, invalid }: CheckedSettings): string[] {
  const problems: string[] = [];
  const missing = INSTALLATION_SETTINGS.filter(
    (name) => values.get(name) === undefined && !invalid.has(name),
  );
  if (missing.length > 0 && missing.length < INSTALLATION_SETTINGS.length)
    problems.push(
      `an OpenAperture installation needs all of its settings: set ${missing.join(', ')} too, or unset the others`,
    );
  if (values.get('MANAGER_URL') === undefined) return problems;
  for (const name of ['HOSTNAME', 'MODULE_TYPE'] as const) {
    if (!isModuleText(String(values.get(name))))
      problems.push(
        `${name} must be at most ${COLUMN_CHARACTERS} printable ASCII characters: OpenAperture stores no others for a module`,
      );
  }
  return problems;
}

function problemsOfCertificates({ values }: CheckedSettings): string[] {
  const problems: string[] = [];
  const given = TLS_SETTINGS.filter((name) => values.get(name) !== undefined);
  if (values.get('MANAGER_URL') !== undefined && given.length > 0)
    problems.push(
      `${given.join(', ')} set, but with MANAGER_URL the brokers come from the Manager, which has no amqps addresses: unset ${given.length === 1 ? 'it' : 'them'}`,
    );
  const urls = values.get('AMQP_URL');
  if (urls !== undefined && given.length > 0 && !/(?:^|,)\s*amqps:/.test(String(urls)))
    problems.push(
      `${given.join(', ')} set, but AMQP_URL has no amqps:// address, and certificates are used for no other: use amqps://, or unset ${given.length === 1 ? 'it' : 'them'}`,
    );
  if ((values.get('AMQP_CERT_FILE') === undefined) !== (values.get('AMQP_KEY_FILE') === undefined))
    problems.push('AMQP_CERT_FILE and AMQP_KEY_FILE require each other: set both or none');
  return problems;
}

function problemsOfClaims({ values, invalid }: CheckedSettings): string[] {
  const problems: string[] = [];
  const isGiven = (name: SettingName) => values.get(name) !== undefined || invalid.has(name);
  const others = CLAIMS_SETTINGS.filter(isGiven);
  if (!isGiven('CLAIMS_ETCD_URL') && others.length > 0)
    problems.push(`${others.join(', ')} set, but CLAIMS_ETCD_URL is not: set it too, or unset the others`);
  if (isGiven('CLAIMS_ETCD_USER') !== isGiven('CLAIMS_ETCD_PASSWORD'))
    problems.push('CLAIMS_ETCD_USER and CLAIMS_ETCD_PASSWORD require each other: set both or none');
  return problems;
}

function problemsOfQueues({ values }: CheckedSettings): string[] {
  if (values.get('QUEUE_TYPE') !== 'quorum' || values.get('QUEUE_MAX_PRIORITY') === undefined) return [];
  return [
    'QUEUE_MAX_PRIORITY is set, but QUEUE_TYPE is quorum, and only classic queues can have it: unset one of them',
  ];
}

function problemsOfAudit({ values, invalid }: CheckedSettings): string[] {
  const target = values.get('AUDIT');
  const problems: string[] = [];
  const isOn = (name: SettingName) => values.get(name) === 'true';
  const others = (['AUDIT_REQUIRED', 'AUDIT_READS'] as const).filter(isOn);
  if (target === 'off' && others.length > 0 && !invalid.has('AUDIT'))
    problems.push(`${others.join(', ')} set, but AUDIT is off: set it too, or unset the others`);
  if (target === 'stderr' && isOn('AUDIT_REQUIRED'))
    problems.push(
      'AUDIT_REQUIRED is true, but AUDIT is stderr, and nothing says whether somebody keeps what is written there: set AUDIT to a file or to stream, or unset AUDIT_REQUIRED',
    );
  return problems;
}

/** Without a broker the service is a sandbox. It must not become one by mistake. */
function problemsOfSandbox({ values, invalid }: CheckedSettings): string[] {
  const isGiven = (name: SettingName) => values.get(name) !== undefined || invalid.has(name);
  if (isGiven('AMQP_URL') || INSTALLATION_SETTINGS.some(isGiven)) return [];
  const environment = String(values.get('NODE_ENV'));
  if (!['development', 'test'].includes(environment))
    return [
      `AMQP_URL is not set: without it the service is a sandbox, which NODE_ENV=${maskedIfUrl(environment)} does not allow; set AMQP_URL to your RabbitMQ, such as amqp://user:password@host:5672`,
    ];
  if (values.get('HTTP_PORT') === 'off')
    return [
      'HTTP_PORT is off and AMQP_URL is not set, so nothing could call the service: set AMQP_URL, to serve real clusters; or HTTP_PORT, to call the sandbox',
    ];
  if (values.get('AUDIT') === 'stream')
    return [
      'AUDIT is stream, but the broker of a sandbox has no streams: set AMQP_URL too, to serve real clusters; or AUDIT to a file',
    ];
  const ignored = changed(REAL_CLUSTER_SETTINGS, values);
  if (ignored.length === 0) return [];
  const [are, them] = ignored.length === 1 ? ['is', 'it'] : ['are', 'them'];
  return [
    `${ignored.join(' and ')} ${are} set, which a sandbox would ignore: set AMQP_URL too, to serve real clusters; or unset ${them}, to run the sandbox`,
  ];
}

/** A service for real clusters must not show a simulated one by mistake. */
function problemsOfSandboxCluster({ values }: CheckedSettings): string[] {
  if (values.get('SANDBOX_CLUSTER') !== 'true') return [];
  const ignored = changed(REAL_MACHINE_SETTINGS, values);
  if (ignored.length === 0) return [];
  return [
    `${ignored.join(' and ')} set, but SANDBOX_CLUSTER is true, and would ignore ${ignored.length === 1 ? 'it' : 'them'}: unset SANDBOX_CLUSTER, to serve real clusters`,
  ];
}

/** Those of the settings that have another value than their default. */
function changed(names: readonly SettingName[], values: CheckedSettings['values']): readonly SettingName[] {
  const defaults = new Map<string, unknown>(ALL_SETTINGS.map((each) => [each.name, each.default]));
  return names.filter((name) => values.get(name) !== defaults.get(name));
}

/** With a Manager, its brokers are used; the setting would be ignored. */
function problemsOfBrokers({ values }: CheckedSettings): string[] {
  return values.get('MANAGER_URL') !== undefined && values.get('AMQP_URL') !== undefined
    ? [
        'AMQP_URL and MANAGER_URL are both set, but with MANAGER_URL the brokers come from the Manager: unset one of them',
      ]
    : [];
}

function problemsOfGateway(settings: CheckedSettings): string[] {
  const { values, invalid } = settings;
  const host = String(values.get('HTTP_HOST'));
  const isOpen = (['HTTP_TOKEN', 'HTTP_TOKENS_FILE'] as const).every(
    (name) => values.get(name) === undefined && !invalid.has(name),
  );
  if (!isListening(settings) || isLoopback(host) || !isOpen) return [];
  return [
    `HTTP_HOST is ${maskedIfUrl(host)}, which other machines can reach: set HTTP_TOKEN or HTTP_TOKENS_FILE, or leave HTTP_HOST at 127.0.0.1`,
  ];
}

function problemsOfMetrics(settings: CheckedSettings): string[] {
  const { values, invalid } = settings;
  const port = values.get('METRICS_PORT');
  if (port === 'off') return [];
  if (port === 'gateway')
    return isListening(settings)
      ? []
      : ['METRICS_PORT is gateway, but HTTP_PORT is off: set a port for the metrics, or for the gateway'];
  const host = String(values.get('METRICS_HOST'));
  const isOpen = values.get('METRICS_TOKEN') === undefined && !invalid.has('METRICS_TOKEN');
  if (isLoopback(host) || !isOpen) return [];
  return [
    `METRICS_HOST is ${maskedIfUrl(host)}, which other machines can reach: set METRICS_TOKEN, or leave METRICS_HOST at 127.0.0.1`,
  ];
}

/** Every request that is small enough must fit into memory. */
function problemsOfMemory(settings: CheckedSettings): string[] {
  const [budget, largest] = [
    settings.values.get('MEMORY_BUDGET_BYTES'),
    settings.values.get('MAX_MESSAGE_BYTES'),
  ];
  const hasGateway = isListening(settings);
  const least = leastMemoryBudget(Number(largest), { hasGateway });
  if (Number(budget) >= least) return [];
  const gateway = hasGateway ? ', of which the HTTP gateway has a quarter' : '';
  return [
    `MEMORY_BUDGET_BYTES is ${budget}${gateway}: it must be at least ${least} to decode a request of MAX_MESSAGE_BYTES, which is ${largest}; raise the one or lower the other`,
  ];
}

function isListening({ values }: CheckedSettings): boolean {
  return values.get('HTTP_PORT') !== 'off';
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
