import { ActionError } from '../../api/action-error.js';
import { isHostAddress } from '../../api/grammar.js';

const MAX_MEMBERS = 256;

/**
 * The hosts of the members in a discovery answer, each once. A value is `NAME=URL`, a bare URL, or several of them
 * joined by commas; the URL is etcd's peer URL, and only its host is used.
 * @throws ActionError `cluster_answer_invalid`
 */
export function memberHosts(body: unknown): string[] {
  const members = memberNodes(body);
  const values = members.map((member) => field(member, 'value')).filter((value) => typeof value === 'string');
  const hosts = values.flatMap((value) => value.split(',')).map(hostOf);
  const usable = [...new Set(hosts.filter((host) => host !== undefined))].slice(0, MAX_MEMBERS);
  if (usable.length === 0 && members.length > 0) throw unusable('none of its members has an address');
  return usable;
}

function memberNodes(body: unknown): unknown[] {
  const node = field(body, 'node');
  if (typeof node !== 'object' || node === null || Array.isArray(node)) throw unusable('it has no node');
  const nodes = field(node, 'nodes') ?? [];
  if (!Array.isArray(nodes)) throw unusable('its nodes are not a list');
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

/** The error for an answer of discovery that cannot be used. */
export function unusable(reason: string): ActionError {
  return new ActionError(
    'cluster_answer_invalid',
    `The discovery service gave an answer that is not usable: ${reason}`,
  );
}
