import { ActionError } from '../../api/action-error.js';
import { isHostAddress } from '../../api/grammar.js';
import { hostOf } from '../../lib/host-of.js';

const MAX_HOSTS = 256;
/** The maximum number of URLs that are read; a member has one or two. Further members are only counted. */
const MAX_URLS = 2_048;
const MAX_URLS_OF_MEMBER = 64;
const MAX_URL_CHARACTERS = 2_048;
const MAX_NAMED = 50;

export interface MemberHosts {
  /** Each once; at most 256. */
  hosts: string[];
  /** Values of members that have no valid host, or that exceed a limit; without passwords, at most 50. */
  ignored: string[];
  /** How many more are not used. */
  moreIgnored: number;
}

/**
 * The hosts of the members in a discovery response. A member's value is `NAME=URL`, a URL alone, or several of these
 * separated by commas. The URL is etcd's peer URL; only its host is used.
 * @throws ActionError `cluster_answer_invalid`
 */
export function memberHosts(body: unknown): MemberHosts {
  const all = new Set<string>();
  const invalid = new Set<string>();
  let urls = 0;
  let unread = 0;
  for (const member of memberNodes(body)) {
    if (urls >= MAX_URLS) {
      unread++;
      continue;
    }
    const members = readMember(field(member, 'value'));
    urls += members.length;
    for (const named of members) {
      if (named.host === undefined) invalid.add(named.invalid);
      else all.add(named.host);
    }
  }
  const hosts = [...all].slice(0, MAX_HOSTS);
  const ignored = [...invalid, ...[...all].slice(MAX_HOSTS)];
  if (hosts.length === 0 && ignored.length > 0)
    throw invalidDiscoveryResponse(`none of its members has a valid host: ${ignored.slice(0, 5).join(', ')}`);
  const examples = ignored.slice(0, MAX_NAMED);
  return { hosts, ignored: examples, moreIgnored: ignored.length - examples.length + unread };
}

/** What one URL of a member names: a host, or else what is not one, for people. */
type Named = { host: string } | { host: undefined; invalid: string };

function readMember(value: unknown): Named[] {
  if (typeof value !== 'string') return [{ host: undefined, invalid: 'a value that is not text' }];
  const parts = value.split(',', MAX_URLS_OF_MEMBER + 1);
  if (parts.length > MAX_URLS_OF_MEMBER)
    return [{ host: undefined, invalid: `a value with more than ${MAX_URLS_OF_MEMBER} URLs` }];
  return parts.map(urlOf).map((url) => {
    const host = hostIn(url);
    return host === undefined ? { host, invalid: shown(url) } : { host };
  });
}

function memberNodes(body: unknown): unknown[] {
  const node = field(body, 'node');
  if (typeof node !== 'object' || node === null || Array.isArray(node))
    throw invalidDiscoveryResponse('it has no node');
  const nodes = field(node, 'nodes') ?? [];
  if (!Array.isArray(nodes)) throw invalidDiscoveryResponse('its nodes are not a list');
  return nodes;
}

/** The URL of `NAME=URL`, or of a URL alone. A name may contain `://`. */
function urlOf(member: string): string {
  return /^\s*https?:\/\//i.test(member) ? member : member.slice(member.indexOf('=') + 1);
}

function hostIn(url: string): string | undefined {
  if (url.length > MAX_URL_CHARACTERS || !URL.canParse(url)) return undefined;
  const host = hostOf(new URL(url));
  return isHostAddress(host) ? host : undefined;
}

/** An ignored member, for people: its beginning in quotes, without a password, and harmless on a terminal. */
function shown(url: string): string {
  const harmless = url.replace(/\/\/[^/]*@/, '//').replace(/[^ -~]/g, '?');
  return `'${harmless.slice(0, 100)}'`;
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null
    ? Object.entries(value).find(([name]) => name === key)?.[1]
    : undefined;
}

/** The error for an invalid response of the discovery service. */
export function invalidDiscoveryResponse(reason: string): ActionError {
  return new ActionError(
    'cluster_answer_invalid',
    `The discovery service sent an invalid response: ${reason}`,
  );
}
