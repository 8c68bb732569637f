import { COLUMN_CHARACTERS, isModuleText } from '../openaperture/columns.js';
import type { GivenValue } from './setting.js';
import { ALL_SETTINGS, type SettingName } from './settings.js';

/** The settings with a correct form, with their defaults, and the names of the others. */
export interface CheckedSettings {
  values: { get(name: SettingName): GivenValue | undefined };
  faulty: { has(name: SettingName): boolean };
}

/** Settings that a sandbox would ignore. */
const OF_REAL_CLUSTERS = [
  'AMQP_CA_FILE',
  'AMQP_CERT_FILE',
  'ETCD_DISCOVERY_URL',
  'FLEET_API_PORT',
  'CLUSTERS_FILE',
  'ALLOWED_HOSTS',
] as const satisfies SettingName[];

const OF_TLS = ['AMQP_CA_FILE', 'AMQP_CERT_FILE', 'AMQP_KEY_FILE'] as const satisfies SettingName[];

const OF_INSTALLATION = [
  'MANAGER_URL',
  'OAUTH_LOGIN_URL',
  'OAUTH_CLIENT_ID',
  'OAUTH_CLIENT_SECRET',
  'EXCHANGE_ID',
  'BROKER_ID',
] as const satisfies SettingName[];

/** Problems between settings, each of which is correct alone. */
export function problemsBetween(settings: CheckedSettings): string[] {
  return [
    ...problemsOfInstallation(settings),
    ...problemsOfCertificates(settings),
    ...(isListening(settings) && Number(settings.values.get('HTTP_PORT')) > 65_535
      ? ['HTTP_PORT must be at most 65535']
      : []),
  ];
}

/** Problems that stop the service, but not a caller. */
export function problemsOfServing(settings: CheckedSettings): string[] {
  return [...problemsOfSandbox(settings), ...problemsOfGateway(settings)];
}

function problemsOfInstallation({ values, faulty }: CheckedSettings): string[] {
  const problems: string[] = [];
  const missing = OF_INSTALLATION.filter((name) => values.get(name) === undefined && !faulty.has(name));
  if (missing.length > 0 && missing.length < OF_INSTALLATION.length)
    problems.push(
      `an OpenAperture installation is set half: set ${missing.join(', ')} too, or unset the others`,
    );
  if (values.get('MANAGER_URL') === undefined) return problems;
  for (const name of ['HOSTNAME', 'MODULE_TYPE'] as const) {
    if (!isModuleText(String(values.get(name))))
      problems.push(
        `${name} must be at most ${COLUMN_CHARACTERS} printable ASCII characters: OpenAperture keeps no others of a module`,
      );
  }
  return problems;
}

function problemsOfCertificates({ values }: CheckedSettings): string[] {
  const problems: string[] = [];
  const unused = OF_TLS.filter((name) => values.get(name) !== undefined);
  if (values.get('MANAGER_URL') !== undefined && unused.length > 0)
    problems.push(
      `${unused.join(', ')} set, but with MANAGER_URL no broker is connected to by amqps: the Manager knows none; unset ${unused.length === 1 ? 'it' : 'them'}`,
    );
  if ((values.get('AMQP_CERT_FILE') === undefined) !== (values.get('AMQP_KEY_FILE') === undefined))
    problems.push('AMQP_CERT_FILE and AMQP_KEY_FILE go together: set both or none');
  return problems;
}

/** Without a broker the service is a sandbox, which must be intended. */
function problemsOfSandbox({ values, faulty }: CheckedSettings): string[] {
  const isGiven = (name: SettingName) => values.get(name) !== undefined || faulty.has(name);
  if (isGiven('AMQP_URL') || OF_INSTALLATION.some(isGiven)) return [];
  const environment = String(values.get('NODE_ENV'));
  if (!['development', 'test'].includes(environment))
    return [
      `AMQP_URL is not set: without it the service is a sandbox, which is refused with NODE_ENV=${environment}; set AMQP_URL to your RabbitMQ, such as amqp://user:password@host:5672`,
    ];
  const defaults = new Map(ALL_SETTINGS.map((each) => [each.name, each.default]));
  const ignored = OF_REAL_CLUSTERS.filter((name) => values.get(name) !== defaults.get(name));
  if (ignored.length === 0) return [];
  const [are, them] = ignored.length === 1 ? ['is', 'it'] : ['are', 'them'];
  return [
    `${ignored.join(' and ')} ${are} set, which a sandbox would ignore: set AMQP_URL too, to serve real clusters; or unset ${them}, to run the sandbox`,
  ];
}

function problemsOfGateway(settings: CheckedSettings): string[] {
  const { values, faulty } = settings;
  const host = String(values.get('HTTP_HOST'));
  const isOpen = values.get('HTTP_TOKEN') === undefined && !faulty.has('HTTP_TOKEN');
  if (!isListening(settings) || isLoopback(host) || !isOpen) return [];
  return [`HTTP_HOST is ${host}, which others can reach: set HTTP_TOKEN, or leave HTTP_HOST at 127.0.0.1`];
}

function isListening({ values }: CheckedSettings): boolean {
  return values.get('HTTP_PORT') !== 'off';
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
