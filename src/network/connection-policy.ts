import { lookup as dnsLookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { ActionError } from '../api/action-error.js';
import { canonicalHost, isHostAddress } from '../api/grammar.js';

/** Decides where this service may connect. */
export interface ConnectionPolicy {
  /**
   * The addresses of a host name or address that may be connected to. Connect to one of them, not to the name: the name may
   * have another address a moment later.
   * @throws ActionError `forbidden` when policy allows none of them; the resolver's own error when there are none
   */
  resolve(host: string): Promise<string[]>;
}

type Lookup = (host: string) => Promise<readonly { address: string }[]>;

/** Addresses with the first `prefix` bits in common; a single address with all of them. */
interface Range {
  address: string;
  prefix: number;
  family: 'ipv4' | 'ipv6';
}

/** Addresses of this machine, of this link, or of no single machine: allowed only where they are listed explicitly. */
const SPECIAL = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '255.255.255.255',
  '::',
  '::1',
  'fe80::/10',
  'ff00::/8',
].map(rangeOf);

/**
 * The policy of `ALLOWED_HOSTS`: addresses, CIDR ranges, and host names in which `*` matches one or more labels.
 * Without a list everything is allowed except loopback, link-local, multicast and unspecified addresses. With a list
 * nothing else is allowed; a special address only if a listed address or range lies wholly within the special ones
 * (`127.0.0.0/8`; neither `0.0.0.0/0` nor a host name allows them).
 */
export class HostPolicy implements ConnectionPolicy {
  readonly #lookup: Lookup;
  readonly #everything: boolean;
  readonly #ranges: Range[] = [];
  readonly #names: RegExp[] = [];

  /** @throws Error naming the entry that is neither an address, nor a range, nor a host name */
  constructor(
    allowed: readonly string[] | undefined,
    lookup: Lookup = (host) => dnsLookup(host, { all: true }),
  ) {
    this.#lookup = lookup;
    this.#everything = allowed === undefined;
    for (const entry of allowed ?? []) this.#allow(entry.trim());
  }

  async resolve(host: string): Promise<string[]> {
    const found = isIP(host) === 0 ? (await this.#lookup(host)).map(({ address }) => address) : [host];
    const allowed = found.filter((address) => this.allows(host, address));
    if (allowed.length > 0) return allowed;
    throw new ActionError('forbidden', `Connecting to ${host} is not allowed: ${this.#reason(found)}`, {
      details: { host },
    });
  }

  /** Whether a connection to this address, meant for this host, is allowed. */
  allows(host: string, address: string): boolean {
    const plain = plainAddress(address);
    if (plain === undefined) return false;
    const listed = this.#ranges.filter((range) => contains(range, plain));
    if (isSpecial(plain)) return listed.some(isSpecial);
    if (this.#everything || listed.length > 0) return true;
    return isIP(host) === 0 && this.#names.some((name) => name.test(host));
  }

  #allow(entry: string): void {
    const range = rangeOrUndefined(entry);
    if (range !== undefined) {
      this.#ranges.push(range);
    } else if (isHostAddress(entry.replaceAll('*', 'x')) && !/^[\d.*]*\d[\d.*]*$/.test(entry)) {
      const labels = entry.split('.').map((label) => label.replaceAll('*', '[0-9a-z-]+(\\.[0-9a-z-]+)*'));
      this.#names.push(new RegExp(`^${labels.join('\\.')}$`, 'i'));
    } else {
      throw new Error(
        `'${entry}' is neither an address, nor a range such as 10.0.0.0/8, nor a host name such as *.example.com`,
      );
    }
  }

  #reason(addresses: readonly string[]): string {
    const special = addresses.some((address) => {
      const plain = plainAddress(address);
      return plain === undefined || isSpecial(plain);
    });
    return special
      ? 'loopback, link-local, multicast and unspecified addresses have to be listed in ALLOWED_HOSTS'
      : 'it is not listed in ALLOWED_HOSTS';
  }
}

function isSpecial(range: Range): boolean {
  return SPECIAL.some((special) => contains(special, range));
}

/** Never true across families: a BlockList alone would find every IPv4 address in `::/0`. */
function contains(outer: Range, inner: Range): boolean {
  if (outer.family !== inner.family || inner.prefix < outer.prefix) return false;
  const list = new BlockList();
  list.addSubnet(outer.address, outer.prefix, outer.family);
  return list.check(inner.address, inner.family);
}

function rangeOf(text: string): Range {
  const range = rangeOrUndefined(text);
  if (range === undefined) throw new Error(`'${text}' is not a range of addresses`);
  return range;
}

function rangeOrUndefined(text: string): Range | undefined {
  const [base = '', bits, ...rest] = text.split('/');
  const plain = plainAddress(base);
  if (plain === undefined || rest.length > 0) return undefined;
  if (bits === undefined) return plain;
  // Of an IPv4 address written as IPv6, the last 32 of 128 bits remain.
  const before = plain.family === 'ipv4' && isIP(base) === 6 ? 96 : 0;
  const prefix = /^\d{1,3}$/.test(bits) ? Number(bits) - before : -1;
  return prefix >= 0 && prefix <= plain.prefix ? { ...plain, prefix } : undefined;
}

/** An address in one canonical form, so that another spelling of it cannot bypass a list. */
function plainAddress(address: string): Range | undefined {
  if (isIP(address) === 0 || address.includes('%')) return undefined;
  const plain = canonicalHost(address);
  return isIP(plain) === 4
    ? { address: plain, prefix: 32, family: 'ipv4' }
    : { address: plain, prefix: 128, family: 'ipv6' };
}
