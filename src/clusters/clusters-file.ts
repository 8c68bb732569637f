import { ActionError } from '../api/action-error.js';
import { CLUSTER_TOKEN } from '../api/cluster.js';
import { canonicalHost, isHostAddress } from '../api/grammar.js';
import { reasonOf } from '../lib/errors.js';
import { maskedIfUrl, maskedUrl } from '../lib/masked-url.js';
import { type PlacedYaml, readYaml } from '../lib/placed-yaml.js';
import type { SystemdMachine } from './systemd/systemd-machine.js';

/** What a `CLUSTERS_FILE` says. */
export interface ClustersFile {
  /** How many clusters it has, without those that cannot be used. */
  readonly count: number;
  /** Of fleet clusters that need no discovery: by the token, or the name that callers use in its place, the base URLs of their fleet APIs. */
  readonly endpoints: ReadonlyMap<string, readonly URL[]>;
  /** The machines of the clusters of kind `systemd`, by name. */
  readonly machines: ReadonlyMap<string, readonly SystemdMachine[]>;
  /** How to log in to the hosts that have a port or a user of their own, by their canonical names. */
  readonly logins: ReadonlyMap<string, Login>;
  /** The etcd tokens of the clusters that callers may name instead of them, by name. The tokens are secrets. */
  readonly tokens: ReadonlyMap<string, string>;
  /** The names of clusters by what identifies them: a token, or the name itself. */
  readonly names: ReadonlyMap<string, string>;
  /** The keys of entries that cannot be used. They may be secrets. */
  readonly unusable: ReadonlySet<string>;
  /** Why, each with its place in the file. They contain no key, which may be a secret. */
  readonly problems: readonly string[];
}

/** Where and as whom the service logs in; undefined: as its settings say. */
export interface Login {
  readonly port: number | undefined;
  readonly user: string | undefined;
}

/** What discovery services give as tokens: 32 hexadecimal digits, or a UUID. Such a key of the file may be a secret. */
const LOOKS_LIKE_TOKEN = /^[0-9a-f]{32}$|^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const FLEET_KEYS: ReadonlySet<string> = new Set(['kind', 'etcd_token', 'endpoints']);
const SYSTEMD_KEYS: ReadonlySet<string> = new Set(['kind', 'machines']);
const MACHINE_KEYS: ReadonlySet<string> = new Set(['host', 'port', 'user', 'metadata']);
const USER = /^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/;

export const NO_CLUSTERS: ClustersFile = {
  count: 0,
  endpoints: new Map(),
  machines: new Map(),
  logins: new Map(),
  tokens: new Map(),
  names: new Map(),
  unusable: new Set(),
  problems: [],
};

/**
 * Reads the text of a `CLUSTERS_FILE`, YAML or JSON: an object of `name: [endpoint, ...]`, of
 * `name: {"etcd_token": "...", "endpoints": [...]}`, of which discovery finds the endpoints when they are left out, or of
 * `name: {"kind": "systemd", "machines": [{"host": "...", "port": 22, "user": "...", "metadata": {...}}, ...]}`. An endpoint is a URL
 * (`http://10.0.0.1:49153`) or a host; without a port, `fleetPort` is used. An entry that is wrong is left out, and noted.
 * @throws Error when the text is no such object at all
 */
export function readClustersFile(text: string, fleetPort: number): ClustersFile {
  const file = readYaml(text);
  if (!isObject(file.value)) throw new Error('it must be an object of cluster names and what they are');
  const reader = new EntryReader(file, file.value, fleetPort);
  for (const [name, value] of Object.entries(file.value)) reader.read(name, value);
  return reader;
}

/** What is wrong with an entry. */
class EntryProblem extends Error {
  readonly path: readonly (string | number)[];

  constructor(message: string, path: readonly (string | number)[] = []) {
    super(message);
    this.path = path;
  }
}

class EntryReader implements ClustersFile {
  readonly endpoints = new Map<string, readonly URL[]>();
  readonly machines = new Map<string, readonly SystemdMachine[]>();
  readonly logins = new Map<string, Login>();
  readonly tokens = new Map<string, string>();
  readonly names = new Map<string, string>();
  readonly unusable = new Set<string>();
  readonly problems: string[] = [];
  readonly #file: PlacedYaml;
  readonly #content: Readonly<Record<string, unknown>>;
  readonly #fleetPort: number;

  constructor(file: PlacedYaml, content: Readonly<Record<string, unknown>>, fleetPort: number) {
    this.#file = file;
    this.#content = content;
    this.#fleetPort = fleetPort;
  }

  get count(): number {
    return new Set([...this.endpoints.keys(), ...this.machines.keys(), ...this.tokens.values()]).size;
  }

  read(name: string, value: unknown): void {
    try {
      // The name may be a token, so the error does not contain it.
      if (!CLUSTER_TOKEN.test(name))
        throw new EntryProblem('a cluster name has characters other than A-Z a-z 0-9 _ -');
      if (!isObject(value)) {
        this.endpoints.set(name, endpointsOf(value, this.#fleetPort));
        if (!LOOKS_LIKE_TOKEN.test(name)) this.names.set(name, name);
      } else if (LOOKS_LIKE_TOKEN.test(name))
        throw new EntryProblem(
          'a cluster name looks like an etcd token: a name is shown, a token is a secret',
        );
      else if (value.kind === 'systemd') this.#readSystemd(name, value);
      else this.#readFleet(name, value);
    } catch (error) {
      const path = error instanceof EntryProblem ? error.path : [];
      const ofKey = path.length === 0;
      this.problems.push(`${this.#file.placeOf([name, ...path], ofKey)}: ${reasonOf(error)}`);
      this.unusable.add(name);
    }
  }

  #readFleet(name: string, entry: Readonly<Record<string, unknown>>): void {
    if (entry.kind !== undefined && entry.kind !== 'fleet')
      throw new EntryProblem('the kind of a cluster is fleet or systemd', ['kind']);
    refuseOthers(entry, FLEET_KEYS, 'an entry of kind fleet');
    const { etcd_token: token = entry.kind === 'fleet' && entry.endpoints !== undefined ? name : undefined } =
      entry;
    if (typeof token !== 'string' || !CLUSTER_TOKEN.test(token))
      throw new EntryProblem('it needs an etcd_token of 1 to 128 of the characters A-Z a-z 0-9 _ -');
    if (token !== name || entry.etcd_token !== undefined) {
      if (Object.hasOwn(this.#content, token))
        throw new EntryProblem('its etcd_token is also a name in the file');
      if (this.names.has(token)) throw new EntryProblem('another name has the same etcd_token');
    }
    const endpoints =
      entry.endpoints === undefined ? undefined : endpointsOf(entry.endpoints, this.#fleetPort);
    this.names.set(token, name);
    if (token !== name) this.tokens.set(name, token);
    if (endpoints !== undefined) this.endpoints.set(token, endpoints);
  }

  #readSystemd(name: string, entry: Readonly<Record<string, unknown>>): void {
    refuseOthers(entry, SYSTEMD_KEYS, 'an entry of kind systemd');
    const { machines } = entry;
    if (!Array.isArray(machines) || machines.length === 0)
      throw new EntryProblem('it needs machines: a list of objects with host', ['machines']);
    const hosts = new Set<string>();
    const logins = new Map<string, Login>();
    const read = machines.map((each: unknown, index) => {
      const at = (...more: string[]) => ['machines', index, ...more];
      const { machine, login } = machineOf(each, at);
      const host = canonicalHost(machine.host);
      if (hosts.has(host)) throw new EntryProblem('this host is in the list twice', at('host'));
      hosts.add(host);
      // A host has one SSH server: it is the host that actions name.
      const known = this.logins.get(host);
      if (known !== undefined && (known.port !== login.port || known.user !== login.user))
        throw new EntryProblem('another entry has this host with another port or user', at('host'));
      logins.set(host, login);
      return machine;
    });
    for (const [host, login] of logins) this.logins.set(host, login);
    this.machines.set(name, read);
    this.names.set(name, name);
  }
}

/** @throws ActionError when the entry that a request names cannot be used */
export function requireUsable({ unusable }: Pick<ClustersFile, 'unusable'>, token: string): void {
  if (unusable.has(token))
    throw new ActionError(
      'cluster_entry_invalid',
      'The entry of this cluster in CLUSTERS_FILE cannot be used: the log of the service, and fleet-manager doctor, say why',
    );
}

function machineOf(
  value: unknown,
  at: (...more: string[]) => (string | number)[],
): { machine: SystemdMachine; login: Login } {
  if (!isObject(value)) throw new EntryProblem('a machine is an object with host', at());
  const unknown = Object.keys(value).find((key) => !MACHINE_KEYS.has(key));
  if (unknown !== undefined)
    throw new EntryProblem('a machine has host, port, user and metadata, and no other key', at(unknown));
  const { host, port, user, metadata = {} } = value;
  if (typeof host !== 'string' || !isHostAddress(host))
    throw new EntryProblem('a machine needs a host: an IP address or a host name', at('host'));
  if (port !== undefined && !(Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65_535))
    throw new EntryProblem('port must be a number from 1 to 65535', at('port'));
  if (user !== undefined && !(typeof user === 'string' && USER.test(user)))
    throw new EntryProblem('user must be the name of a user', at('user'));
  if (!isObject(metadata) || Object.values(metadata).some((each) => typeof each !== 'string'))
    throw new EntryProblem('metadata must be an object of texts: quote numbers', at('metadata'));
  const texts = Object.entries(metadata).map(([key, each]) => [key, String(each)] as const);
  return {
    machine: { host, metadata: Object.fromEntries(texts) },
    login: { port: port === undefined ? undefined : Number(port), user },
  };
}

function refuseOthers(
  entry: Readonly<Record<string, unknown>>,
  keys: ReadonlySet<string>,
  what: string,
): void {
  const unknown = Object.keys(entry).find((key) => !keys.has(key));
  if (unknown === undefined) return;
  throw new EntryProblem(`${what} may have only ${[...keys].join(', ')}`, [unknown]);
}

function endpointsOf(value: unknown, fleetPort: number): URL[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) throw new EntryProblem('a cluster has no endpoints');
  return list.map((each) => endpointOf(each, fleetPort));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function endpointOf(value: unknown, fleetPort: number): URL {
  const text = typeof value === 'string' ? value : '';
  const full = text.includes('://') ? text : `http://${text}`;
  // Not only before a `/`: with a `/` in a password, its rest is read as the path.
  if (text.includes('@'))
    throw new EntryProblem(
      `the endpoint ${maskedUrl(full)} has a user name or password, which fleet's API does not support`,
    );
  if (text === '' || !URL.canParse(full))
    throw new EntryProblem(`${shownEndpoint(value)} is not an endpoint such as http://10.0.0.1:49153`);
  const url = new URL(full);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new EntryProblem(`${maskedIfUrl(text)} is neither http nor https`);
  if (url.search !== '' || url.hash !== '')
    throw new EntryProblem(`${maskedIfUrl(text)} must be a base URL, without a query or a fragment`);
  // `URL` drops the default port of the scheme, but an explicit port must be kept.
  if (url.port === '' && !/^\w+:\/\/[^/]*:\d+(\/|$)/.test(full)) url.port = String(fleetPort);
  return url;
}

function shownEndpoint(value: unknown): string {
  if (typeof value === 'object' && value !== null) return 'a list or an object';
  return JSON.stringify(typeof value === 'string' ? maskedIfUrl(value) : value);
}
