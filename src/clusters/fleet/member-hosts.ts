import { ActionError } from '../../api/action-error.js';
import { isHostAddress } from '../../api/grammar.js';

const MAX_MEMBERS = 256;

export interface MemberHosts {
  /** Each once. */
  hosts: string[];
  /** The values of members that have no valid host, or that exceed the limit; without passwords. */
  ignored: string[];
}

/**
 * The hosts of the members in a discovery response. A member's value is `NAME=URL`, a URL alone, or several of these
 * separated by commas. The URL is etcd's peer URL; only its host is used.
 * @throws ActionError `cluster_answer_invalid`
 */
export function memberHosts(body: unknown): MemberHosts {
  const urls = memberNodes(body).flatMap((member) => {
    const value = field(member, 'value');
    return typeof value === 'string' ? value.split(',').map(urlOf) : [undefined];
  });
  const found = urls.map((url) => ({ url, host: hostOf(url) }));
  const all = [...new Set(found.flatMap(({ host }) => host ?? []))];
  const hosts = all.slice(0, MAX_MEMBERS);
  const invalid = found.filter(({ host }) => host === undefined).map(({ url }) => shown(url));
  const ignored = [...new Set([...invalid, ...all.slice(MAX_MEMBERS)])];
  if (hosts.length === 0 && ignored.length > 0)
    throw invalidDiscoveryResponse(`none of its members has a valid host: ${ignored.slice(0, 5).join(', ')}`);
  return { hosts, ignored };
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

function hostOf(url: string | undefined): string | undefined {
  if (url === undefined || !URL.canParse(url)) return undefined;
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  return isHostAddress(host) ? host : undefined;
}

/** An ignored member, for people: its beginning in quotes, without a password, and harmless on a terminal. */
function shown(url: string | undefined): string {
  if (url === undefined) return 'a value that is not text';
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
