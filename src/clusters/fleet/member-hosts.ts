import { ActionError } from '../../api/action-error.js';
import { isHostAddress } from '../../api/grammar.js';

const MAX_MEMBERS = 256;

/**
 * The hosts of the members in a discovery response, without duplicates. A member's value is `NAME=URL`, a URL alone, or
 * several of these separated by commas. The URL is etcd's peer URL; only its host is used.
 * @throws ActionError `cluster_answer_invalid`
 */
export function memberHosts(body: unknown): string[] {
  const members = memberNodes(body);
  const values = members.map((member) => field(member, 'value')).filter((value) => typeof value === 'string');
  const hosts = values.flatMap((value) => value.split(',')).map(hostOf);
  const usable = [...new Set(hosts.filter((host) => host !== undefined))].slice(0, MAX_MEMBERS);
  if (usable.length === 0 && members.length > 0)
    throw invalidDiscoveryResponse('none of its members has a valid host');
  return usable;
}

function memberNodes(body: unknown): unknown[] {
  const node = field(body, 'node');
  if (typeof node !== 'object' || node === null || Array.isArray(node))
    throw invalidDiscoveryResponse('it has no node');
  const nodes = field(node, 'nodes') ?? [];
  if (!Array.isArray(nodes)) throw invalidDiscoveryResponse('its nodes are not a list');
  return nodes;
}

function hostOf(member: string): string | undefined {
  const url = /^[a-z]+:\/\//i.test(member) ? member : member.slice(member.indexOf('=') + 1);
  if (!URL.canParse(url)) return undefined;
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  return isHostAddress(host) ? host : undefined;
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
