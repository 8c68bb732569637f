import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import {
  actionNames,
  amqpUrls,
  auditTarget,
  choice,
  count,
  flag,
  host,
  hosts,
  httpUrl,
  httpUrls,
  loginUrl,
  packageNames,
  portOrGateway,
  portOrOff,
  queueName,
  text,
  token,
  workerName,
} from './forms.js';
import type { PluginSettingsSource } from './given-settings.js';
import {
  type Described,
  fileSetting,
  listSetting,
  type NamesIn,
  optional,
  required,
  type Section,
  separated,
  setting,
  settingsIn,
} from './setting.js';

const MEBIBYTE = 1024 * 1024;

/**
 * Every setting, declared once: its name, its form, its default, and its purpose. Its place in this table is its place in the
 * configuration. The table in docs/settings.md is checked against it.
 */
export const SETTINGS = {
  environment: setting('NODE_ENV', text(), {
    default: 'development',
    about:
      'The environment: it selects the configuration file `config/$NODE_ENV.json`; `production` changes defaults.',
  }),
  /** The RabbitMQ to use without an OpenAperture installation; undefined: none. */
  amqp: optional({
    urls: required(
      setting('AMQP_URL', amqpUrls(), {
        as: (urls) => separated(urls),
        secret: true,
        about: 'The URL of the RabbitMQ broker. Several URLs, separated by commas, are tried in turn.',
      }),
    ),
    tls: {
      ca: fileSetting('AMQP_CA_FILE', text(), {
        about: 'Certificates (PEM) of the certificate authorities to trust for amqps.',
      }),
      cert: fileSetting('AMQP_CERT_FILE', text(), {
        about: 'Client certificate (PEM) for amqps; requires `AMQP_KEY_FILE`.',
      }),
      key: fileSetting('AMQP_KEY_FILE', text(), { about: 'Private key (PEM) of the client certificate.' }),
    },
  }),
  amqpManagementUrl: setting('AMQP_MANAGEMENT_URL', loginUrl(), {
    secret: true,
    about:
      "The URL of RabbitMQ's management plugin, only for `doctor`, which then tells who shares the service's user. Without a user in it, the login is that of the broker.",
  }),
  /** The OpenAperture installation that the service is a module of; undefined: none. */
  openaperture: optional({
    managerUrl: required(
      setting('MANAGER_URL', httpUrl(), {
        about:
          "An OpenAperture Manager's API. With it the service gets its brokers from the Manager, and saves replies there too.",
      }),
    ),
    oauth: {
      url: required(
        setting('OAUTH_LOGIN_URL', httpUrl(), {
          about: 'The OAuth server that issues tokens for the Manager.',
        }),
      ),
      clientId: required(
        setting('OAUTH_CLIENT_ID', text(), { about: 'The OAuth client ID of this service.' }),
      ),
      clientSecret: required(
        setting('OAUTH_CLIENT_SECRET', text(), {
          secret: true,
          verbatim: true,
          about: 'The OAuth client secret.',
        }),
      ),
    },
    exchangeId: required(
      setting('EXCHANGE_ID', count(1, Number.MAX_SAFE_INTEGER), {
        about: 'The ID of the exchange in the installation to take requests from.',
      }),
    ),
    brokerId: required(
      setting('BROKER_ID', count(1, Number.MAX_SAFE_INTEGER), {
        about: 'The ID of the broker in the installation to take requests from.',
      }),
    ),
    moduleType: setting('MODULE_TYPE', text(), {
      default: 'fleet_manager',
      about: 'The module type that this worker registers with.',
    }),
    maxRecordBytes: setting('MAX_RECORD_BYTES', count(1_024, 128 * MEBIBYTE), {
      default: 7_500_000,
      about:
        'The largest reply that is saved in a record of the Manager, in bytes of JSON with the envelope. The Manager accepts 8,000,000.',
    }),
  }),
  rpc: {
    queue: setting('QUEUE_NAME', queueName(), {
      default: 'fleet_manager',
      about: 'The queue to take requests from.',
    }),
    queueType: setting('QUEUE_TYPE', choice('classic', 'quorum'), {
      default: 'classic',
      about:
        'The type of queues that the service makes: `quorum` for queues that several nodes of a broker keep. Existing queues are used as they are.',
    }),
    queueMaxPriority: setting('QUEUE_MAX_PRIORITY', count(1, 255), {
      about:
        'The highest priority of classic queues that the service makes; 10 or less costs the broker little. Unset: they have no priorities.',
    }),
    prefetch: setting('PREFETCH', count(4, 10_000), {
      default: 200,
      about:
        'The maximum number of requests that one worker holds at the same time, running or waiting; those for one cluster, and those without one, may take three quarters of it.',
    }),
    concurrency: setting('CONCURRENCY', count(1, 10_000), {
      default: 50,
      about: 'The maximum number of requests that run at the same time.',
    }),
    clusterConcurrency: setting('CLUSTER_CONCURRENCY', count(1, 10_000), {
      default: 20,
      about: 'The maximum number of requests that run at the same time against one cluster, or without one.',
    }),
    maxMessageBytes: setting('MAX_MESSAGE_BYTES', count(1_024, 128 * MEBIBYTE), {
      default: MEBIBYTE,
      about: 'The largest request that is accepted, in bytes; a compressed one counts as it is inflated.',
    }),
    memoryBudgetBytes: setting('MEMORY_BUDGET_BYTES', count(32 * MEBIBYTE, 65_536 * MEBIBYTE), {
      default: 256 * MEBIBYTE,
      about:
        'The memory for requests and replies in progress and for remembered replies, in bytes; a quarter of it is for the HTTP gateway, if that is on.',
    }),
    maxReplyBytes: setting('MAX_ANSWER_BYTES', count(1_024, 128 * MEBIBYTE), {
      default: 16 * MEBIBYTE,
      about: 'The largest reply that is sent, in bytes.',
    }),
  },
  clusters: {
    discoveryUrl: setting('ETCD_DISCOVERY_URL', httpUrl(), {
      default: 'https://discovery.etcd.io',
      about:
        'The discovery service that finds clusters by their etcd tokens, or the `/v2/keys/discovery` of an etcd.',
    }),
    fleetPort: setting('FLEET_API_PORT', count(1, 65_535), {
      default: 7002,
      about: "The port of the clusters' fleet APIs.",
    }),
    /** The clusters file, with its text at the start. */
    file: fileSetting('CLUSTERS_FILE', text(), {
      as: (content, path) => ({ path, text: content.toString('utf8') }),
      about:
        'A YAML or JSON file of clusters: fleet clusters to use without discovery, names for others, and clusters of plain systemd hosts ([docs/clusters.md](clusters.md)). It is read again when it changes.',
    }),
    allowedHosts: listSetting('ALLOWED_HOSTS', hosts(), {
      separator: ',',
      about:
        'The hosts that the service may connect to: addresses, CIDR ranges, names with `*`. Unset: all but special addresses, such as loopback.',
    }),
  },
  sandboxCluster: setting('SANDBOX_CLUSTER', flag(), {
    default: 'false',
    as: isTrue,
    about:
      '`true` serves only simulated clusters, `sandbox` and `sandbox-systemd`, to try the service with a real broker.',
  }),
  /** The etcd in which workers agree on changes; undefined: none. */
  claims: optional({
    urls: required(
      setting('CLAIMS_ETCD_URL', httpUrls(), {
        as: (urls) => separated(urls),
        about:
          'An etcd (v3) in which the workers of a queue agree on changes, so that no two make the same one; the same for all of them. URLs of several members are separated by commas.',
      }),
    ),
    user: setting('CLAIMS_ETCD_USER', text(), {
      about: 'The user of that etcd; requires `CLAIMS_ETCD_PASSWORD`.',
    }),
    password: setting('CLAIMS_ETCD_PASSWORD', text(), {
      secret: true,
      verbatim: true,
      about: 'The password of the user of that etcd.',
    }),
    ca: fileSetting('CLAIMS_ETCD_CA_FILE', text(), {
      about: 'Certificates (PEM) of the certificate authorities to trust for that etcd.',
    }),
  }),
  ssh: {
    user: setting('SSH_USER', text(), { default: 'core', about: 'The login name on the machines.' }),
    port: setting('SSH_PORT', count(1, 65_535), {
      default: 22,
      about: 'The port of the SSH servers on the machines.',
    }),
    privateKey: fileSetting('SSH_KEY_FILE', text(), {
      about: 'The private key to log in with. It is tried before the keys of the ssh-agent.',
    }),
    passphrase: setting('SSH_PASSPHRASE', text(), {
      secret: true,
      verbatim: true,
      about: 'The passphrase of the private key.',
    }),
    agentSocket: setting('SSH_AUTH_SOCK', text(), { about: 'The socket of an ssh-agent.' }),
    knownHostsFile: setting('SSH_KNOWN_HOSTS', text(), {
      defaultIn: () => knownHostsAtHome(),
      about: 'The file of known host keys. Unset: `~/.ssh/known_hosts`.',
    }),
    hostKeys: setting('SSH_HOST_KEYS', choice('strict', 'accept-new', 'off'), {
      default: 'strict',
      about:
        '`strict`: only known host keys are accepted; `accept-new`: the key of a new host is accepted and saved; `off`: no check, so anyone can impersonate a host.',
    }),
    sudo: setting('SSH_SUDO', flag(), {
      default: 'false',
      as: isTrue,
      about: '`true` runs the commands on machines as root, by `sudo -n -- sh`: sudoers must allow `sh`.',
    }),
  },
  plugins: {
    paths: listSetting('PLUGIN_PATHS', text(), {
      separator: ':',
      about: 'More directories with plugin folders, separated by `:`.',
    }),
    /** The names of npm packages of actions. */
    packages: listSetting('PLUGINS', packageNames(), {
      separator: ',',
      about:
        'npm packages of actions, separated by commas; found from the working directory, else beside this package.',
    }),
    readOnly: setting('READ_ONLY', flag(), {
      default: 'false',
      as: isTrue,
      about: '`true` serves only actions that change nothing.',
    }),
    /** Undefined: all actions are served. */
    only: listSetting('ACTIONS', actionNames(), {
      separator: ',',
      about: 'The only actions to serve, separated by commas. Unset: all.',
    }),
  },
  /** The path of the policy file, which is read again when it changes. Undefined: every caller may do everything. */
  policyFile: setting('POLICY_FILE', text(), {
    about:
      'A YAML or JSON file that says which callers may do what; it is read again when it changes. Unset: every caller may do everything.',
  }),
  /** Undefined: no HTTP gateway. */
  http: optional({
    host: setting('HTTP_HOST', host(), {
      default: '127.0.0.1',
      about:
        'The address on which the HTTP gateway listens. Any address but loopback requires `HTTP_TOKEN` or `HTTP_TOKENS_FILE`.',
    }),
    port: required(
      setting('HTTP_PORT', portOrOff(), {
        default: '8080',
        as: (port) => (port === 'off' ? undefined : Number(port)),
        about: 'The port of the HTTP gateway; `0` chooses a free port, `off` disables the gateway.',
      }),
    ),
    token: setting('HTTP_TOKEN', token(16), {
      secret: true,
      about: 'The token that callers of the gateway must send as `Authorization: Bearer`.',
    }),
    /** Its path: it is read again when it changes. */
    tokensFile: setting('HTTP_TOKENS_FILE', text(), {
      about:
        'A JSON file with a token for each caller of the gateway: `[{"name": "ci", "sha256": "..."}]`. It is read again when it changes.',
    }),
  }),
  /** Undefined: no metrics. */
  metrics: optional({
    port: required(
      setting('METRICS_PORT', portOrGateway(), {
        default: 'off',
        as: (port) => (port === 'off' ? undefined : port === 'gateway' ? port : Number(port)),
        about:
          'The port of `GET /metrics` for Prometheus; `0` chooses a free port, `gateway` uses the port of the HTTP gateway, `off` counts nothing.',
      }),
    ),
    host: setting('METRICS_HOST', host(), {
      default: '127.0.0.1',
      about:
        'The address of that port, unless it is that of the gateway. Any address but loopback requires `METRICS_TOKEN`.',
    }),
    token: setting('METRICS_TOKEN', token(16), {
      secret: true,
      about:
        'The token that Prometheus must send as `Authorization: Bearer`. Unset: on the port of the gateway its `HTTP_TOKEN`, if it has one.',
    }),
  }),
  /** Undefined: nothing is audited. */
  audit: optional({
    /** `stderr`, `stream`, or the path of a file. */
    target: required(
      setting('AUDIT', auditTarget(), {
        default: 'off',
        as: (target) => (target === 'off' ? undefined : target),
        about:
          'Where it is noted who changes what: `off`, `stderr`, the path of a file, or `stream`, a stream on the broker that `fleet-manager history` reads.',
      }),
    ),
    required: setting('AUDIT_REQUIRED', flag(), {
      default: 'false',
      as: isTrue,
      about: '`true`: no change begins before it is noted in the file, or in the stream.',
    }),
    reads: setting('AUDIT_READS', flag(), {
      default: 'false',
      as: isTrue,
      about: '`true` notes reads too.',
    }),
    streamDays: setting('AUDIT_STREAM_DAYS', count(1, 3_650), {
      default: 90,
      about:
        'For how many days the broker keeps what is noted in the stream; used when the service creates it.',
    }),
  }),
  shutdownGraceMs: setting('SHUTDOWN_GRACE_SECONDS', count(0, 3_600), {
    default: 20,
    as: (seconds) => seconds * 1_000,
    about: 'How many seconds running requests have to finish at shutdown.',
  }),
  watchdogSeconds: setting('WATCHDOG_SECONDS', count(0, 3_600), {
    default: 30,
    about:
      'How many seconds the event loop may be blocked, such as by an endless loop in a plugin, before the process is killed; `0`: for ever.',
  }),
  log: {
    level: setting('LOG_LEVEL', choice('error', 'warn', 'info', 'debug'), {
      default: 'info',
      about: 'The least severe level that is logged: `error`, `warn`, `info` or `debug`.',
    }),
    format: setting('LOG_FORMAT', choice('json', 'text'), {
      defaultIn: (environment) => (environment === 'production' ? 'json' : 'text'),
      about: '`json` or `text`. Unset: `json` in production.',
    }),
  },
  hostname: setting('HOSTNAME', workerName(), {
    defaultIn: () => hostname(),
    about: 'The name of this worker. Unset: the host name of the machine.',
  }),
} satisfies Section;

/** The configuration of the service: the table with each setting replaced by its value. */
export type Configuration = Described<typeof SETTINGS> & {
  /** Where the settings of plugins are: which there are is known when the plugins are loaded. */
  pluginSettings: PluginSettingsSource;
};

/** What selects the actions, and gives them their settings. */
export type PluginConfiguration = Pick<
  Configuration,
  'plugins' | 'environment' | 'watchdogSeconds' | 'pluginSettings'
>;

/** The values of the settings of actions, by the names of the actions, as a handler process gets them: they contain secrets. */
export type HandlerPluginSettings = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** The name of a setting in the environment and in the configuration file. */
export type SettingName = NamesIn<typeof SETTINGS>;

/** Every setting, in the order of the table. */
export const ALL_SETTINGS = settingsIn(SETTINGS);

/** Undefined: the user has no home folder, such as one without an entry in /etc/passwd. */
function knownHostsAtHome(): string | undefined {
  try {
    const home = homedir();
    return home === '' ? undefined : join(home, '.ssh', 'known_hosts');
  } catch {
    return undefined;
  }
}

function isTrue(value: 'true' | 'false'): boolean {
  return value === 'true';
}
