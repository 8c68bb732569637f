import type { Machine } from '../../api/fleet-transport.js';
import { canonicalHost } from '../../api/grammar.js';

export interface MemberHost {
  /** As discovery names it. */
  host: string;
  /** Its addresses; undefined when its name cannot be resolved. */
  addresses: readonly string[] | undefined;
}

/**
 * The hosts that fleet does not list as machines. Hosts are compared by address when at least one of them is the address
 * of a machine: members of etcd may have other addresses than machines of fleet. Otherwise only the numbers are compared,
 * and when there are fewer machines than hosts, every host may be the missing one.
 */
export function unlistedHosts(hosts: readonly MemberHost[], machines: readonly Machine[]): string[] {
  const addresses = machines.flatMap(({ primaryIP }) => (primaryIP === null ? [] : [primaryIP]));
  const listed = new Set(addresses.map(canonicalHost));
  const isListed = (member: MemberHost) =>
    member.addresses?.some((address) => listed.has(canonicalHost(address))) ?? false;
  const others = hosts.filter((member) => !isListed(member));
  const comparable = others.length < hosts.length;
  const resolved = others.filter(({ addresses: known }) => known !== undefined);
  // A machine whose address fleet does not know may be any of the hosts.
  const unknownMachines = machines.length - addresses.length;
  if (comparable && resolved.length > unknownMachines) return resolved.map(({ host }) => host);
  return machines.length < hosts.length ? others.map(({ host }) => host) : [];
}
