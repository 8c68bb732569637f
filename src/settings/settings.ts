import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import {
  actionNames,
  amqpUrls,
  choice,
  count,
  flag,
  hosts,
  httpUrl,
  portOrOff,
  queueName,
  text,
} from './forms.js';
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

const WHOLE_MEGABYTE = 1024 * 1024;

/**
 * Every setting, declared once: its name, form, default and purpose, and its place in the configuration, which is its
 * place in this table. A test checks the table in the README against it.
 */
export const SETTINGS = {
  environment: setting('NODE_ENV', text(), {
    default: 'development',
    about: 'Names the configuration file; `production` changes defaults.',
  }),
  /** RabbitMQ brokers; undefined: none. */
  amqp: optional({
    urls: required(
      setting('AMQP_URL', amqpUrls(), {
        as: (urls) => separated(urls),
        secret: true,
        about: 'The RabbitMQ broker; several, separated by commas, are tried in turn.',
      }),
    ),
    tls: {
      ca: fileSetting('AMQP_CA_FILE', text(), {
        about: 'Certificates (PEM) of the authorities to trust for amqps.',
      }),
      cert: fileSetting('AMQP_CERT_FILE', text(), {
        about: 'Client certificate (PEM) for amqps; it needs `AMQP_KEY_FILE`.',
      }),
      key: fileSetting('AMQP_KEY_FILE', text(), { about: 'Private key (PEM) of the client certificate.' }),
    },
  }),
  /** The OpenAperture installation that the service is a module of; undefined: none. */
  openaperture: optional({
    managerUrl: required(
      setting('MANAGER_URL', httpUrl(), {
        about: "An OpenAperture Manager's API. The brokers come from it, and replies are saved in it.",
      }),
    ),
    oauth: {
      url: required(
        setting('OAUTH_LOGIN_URL', httpUrl(), {
          about: 'The OAuth server that issues the tokens for the Manager.',
        }),
      ),
      clientId: required(
        setting('OAUTH_CLIENT_ID', text(), { about: 'The client id for the OAuth server.' }),
      ),
      clientSecret: required(
        setting('OAUTH_CLIENT_SECRET', text(), { secret: true, about: 'The secret of the client id.' }),
      ),
    },
    exchangeId: required(
      setting('EXCHANGE_ID', count(1, Number.MAX_SAFE_INTEGER), {
        about: 'The exchange of the installation that is served.',
      }),
    ),
    brokerId: required(
      setting('BROKER_ID', count(1, Number.MAX_SAFE_INTEGER), {
        about: 'The broker of the installation that is served.',
      }),
    ),
    moduleType: setting('MODULE_TYPE', text(), {
      default: 'fleet_manager',
      about: 'The type that this instance registers as.',
    }),
    maxRecordBytes: setting('MAX_RECORD_BYTES', count(1_024, 128 * WHOLE_MEGABYTE), {
      default: 7_500_000,
      about:
        'The largest reply that is saved in a record of the Manager: bytes of JSON, with the envelope. The Manager accepts 8,000,000.',
    }),
  }),
  rpc: {
    queue: setting('QUEUE_NAME', queueName(), {
      default: 'fleet_manager',
      about: 'The queue that requests are taken from.',
    }),
    prefetch: setting('PREFETCH', count(4, 10_000), {
      default: 200,
      about: 'How many requests are held at once.',
    }),
    concurrency: setting('CONCURRENCY', count(1, 10_000), {
      default: 50,
      about: 'How many of them run at once.',
    }),
    clusterConcurrency: setting('CLUSTER_CONCURRENCY', count(1, 10_000), {
      default: 20,
      about: 'How many run at once against one cluster.',
    }),
    maxMessageBytes: setting('MAX_MESSAGE_BYTES', count(1_024, 128 * WHOLE_MEGABYTE), {
      default: WHOLE_MEGABYTE,
      about: 'The largest request that is read.',
    }),
    maxReplyBytes: setting('MAX_ANSWER_BYTES', count(1_024, 128 * WHOLE_MEGABYTE), {
      default: 16 * WHOLE_MEGABYTE,
      about: 'The largest reply that is sent.',
    }),
  },
  clusters: {
    discoveryUrl: setting('ETCD_DISCOVERY_URL', httpUrl(), {
      default: 'https://discovery.etcd.io',
      about:
        "The discovery service that knows clusters by their etcd tokens; or an etcd's `/v2/keys/discovery`.",
    }),
    fleetPort: setting('FLEET_API_PORT', count(1, 65_535), {
      default: 7002,
      about: "The port of the clusters' fleet APIs.",
    }),
    /** The text of the clusters file. */
    file: fileSetting('CLUSTERS_FILE', text(), {
      as: (content) => content.toString('utf8'),
      about: 'JSON file of clusters without discovery: `{"name": ["http://10.0.0.1:49153"]}`.',
    }),
    allowedHosts: listSetting('ALLOWED_HOSTS', hosts(), {
      separator: ',',
      about:
        'Where the service may connect: addresses, CIDR ranges, names with `*`. Unset: anywhere but special addresses.',
    }),
  },
  ssh: {
    user: setting('SSH_USER', text(), { default: 'core', about: 'The login name on the machines.' }),
    port: setting('SSH_PORT', count(1, 65_535), { default: 22, about: 'The port of their SSH servers.' }),
    privateKey: fileSetting('SSH_KEY_FILE', text(), {
      about: 'The private key to log in with; tried before the agent.',
    }),
    passphrase: setting('SSH_PASSPHRASE', text(), {
      secret: true,
      about: 'The passphrase of the private key.',
    }),
    agentSocket: setting('SSH_AUTH_SOCK', text(), { about: 'The socket of an ssh-agent.' }),
    knownHostsFile: setting('SSH_KNOWN_HOSTS', text(), {
      defaultIn: () => join(homedir(), '.ssh', 'known_hosts'),
      about: 'The file of known host keys. Unset: `~/.ssh/known_hosts`.',
    }),
    hostKeys: setting('SSH_HOST_KEYS', choice('strict', 'accept-new', 'off'), {
      default: 'strict',
      about:
        '`strict`: only hosts whose key is known; `accept-new`: records the keys of new hosts; `off`: no check, anyone can impersonate a host.',
    }),
    sudo: setting('SSH_SUDO', flag(), {
      default: 'false',
      as: isTrue,
      about: '`true` runs commands on machines with `sudo -n`.',
    }),
  },
  plugins: {
    paths: listSetting('PLUGIN_PATHS', text(), {
      separator: ':',
      about: 'Further directories of plugin folders, separated by `:`.',
    }),
    readOnly: setting('READ_ONLY', flag(), {
      default: 'false',
      as: isTrue,
      about: '`true` leaves out every action that changes something.',
    }),
    /** Undefined: all actions are served. */
    only: listSetting('ACTIONS', actionNames(), {
      separator: ',',
      about: 'The only actions to serve, separated by commas. Unset: all.',
    }),
  },
  /** Undefined: no HTTP gateway. */
  http: optional({
    host: setting('HTTP_HOST', text(), {
      default: '127.0.0.1',
      about: 'Where the HTTP gateway listens; on an address other than loopback it needs `HTTP_TOKEN`.',
    }),
    port: required(
      setting('HTTP_PORT', portOrOff(), {
        default: '8080',
        as: (port) => (port === 'off' ? undefined : Number(port)),
        about: 'Its port; `0` picks a free one, `off` turns it off.',
      }),
    ),
    token: setting('HTTP_TOKEN', text().min(16, '${path} must have at least 16 characters'), {
      secret: true,
      about: 'What callers of the gateway must send as `Authorization: Bearer`.',
    }),
  }),
  shutdownGraceMs: setting('SHUTDOWN_GRACE_SECONDS', count(0, 3_600), {
    default: 20,
    as: (seconds) => seconds * 1_000,
    about: 'How long running requests may take to end at shutdown.',
  }),
  log: {
    level: setting('LOG_LEVEL', choice('error', 'warn', 'info', 'debug'), {
      default: 'info',
      about: 'The least important lines that are logged.',
    }),
    format: setting('LOG_FORMAT', choice('json', 'text'), {
      defaultIn: (environment) => (environment === 'production' ? 'json' : 'text'),
      about: '`json` or `text`. Unset: `json` in production.',
    }),
  },
  hostname: setting('HOSTNAME', text(), {
    defaultIn: () => hostname(),
    about: "The name of this instance. Unset: the machine's host name.",
  }),
} satisfies Section;

/** The configuration of the service: the table with values in place of the settings. */
export type Configuration = Described<typeof SETTINGS>;

/** The name of a setting, as in the environment and the configuration file. */
export type SettingName = NamesIn<typeof SETTINGS>;

/** Every setting, in the order of the table. */
export const ALL_SETTINGS = settingsIn(SETTINGS);

function isTrue(value: 'true' | 'false'): boolean {
  return value === 'true';
}
