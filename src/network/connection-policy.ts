import { lookup as dnsLookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { ActionError } from '../api/action-error.js';
import type { Cancellable } from '../api/cancellable.js';
import { canonicalHost, isHostAddress } from '../api/grammar.js';
import { once } from '../lib/once.js';
import { type Lookup, NameLookups } from './name-lookups.js';

/** Decides where this service may connect. */
export interface ConnectionPolicy {
  /**
   * Resolves a host name or address to its allowed addresses. Connect to one of these addresses, not to the name: it
   * may resolve to other addresses later.
   * @throws ActionError `forbidden` when the policy allows none of the addresses; the resolver's error when there are
   *   none; the signal's reason when the signal is aborted
   */
  resolve(host: string, options: Cancellable): Promise<string[]>;
}

/** Addresses with the same first `prefix` bits; for a single address all bits. */
interface Range {
  address: string;
  prefix: number;
  family: 'ipv4' | 'ipv6';
}

/** Allowed only when they are listed explicitly. Read when they are needed: it takes as long as a few connections. */
const specialRanges = once(() =>
  [
    // Unspecified, loopback, link-local, multicast, broadcast.
    '0.0.0.0/8',
    '127.0.0.0/8',
    '169.254.0.0/16',
    '224.0.0.0/4',
    '255.255.255.255',
    'fe80::/10',
    'ff00::/8',
    // Reserved (RFC 4291, 2.4): with unspecified, loopback, and forms of IPv4 addresses. Of the local NAT64 prefix 64:ff9b:1::/48
    // (RFC 8215) only its network knows where the IPv4 address is. `plainAddress` has read the other forms as IPv4.
    '::/8',
    // Site-local, deprecated by RFC 3879.
    'fec0::/10',
    // Services of clouds for their own machines, such as metadata with credentials, outside link-local addresses.
    'fd00:ec2::/32',
    'fd20:ce::254',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
  ].map(rangeOf),
);

/** Where tunnels have IPv4 addresses in IPv6 addresses: `at` is the number of bits before it. */
const tunnels = once(() => [
  // 6to4 (RFC 3056).
  { range: rangeOf('2002::/16'), at: 16, inverted: false },
  // Teredo (RFC 4380): the server, and the client with all bits inverted.
  { range: rangeOf('2001::/32'), at: 32, inverted: false },
  { range: rangeOf('2001::/32'), at: 96, inverted: true },
]);

/**
 * The policy of `ALLOWED_HOSTS`: a list of addresses, CIDR ranges, and host names, in which `*` matches one or more
 * labels. Without a list, everything is allowed except special addresses: loopback, link-local, site-local, multicast,
 * unspecified and reserved ones, those of clouds' metadata services, and those of tunnels to special IPv4 addresses. With a
 * list, only its entries are allowed. A special address is allowed only by an entry that contains nothing but special
 * addresses: `127.0.0.0/8` allows them, `0.0.0.0/0` or a host name does not.
 */
export class HostPolicy implements ConnectionPolicy {
  readonly #lookups: NameLookups;
  readonly #everything: boolean;
  readonly #ranges: Range[] = [];
  readonly #names: RegExp[] = [];

  /** @throws Error that says which entry is not an address, a range or a host name, without quoting it: it may be a URL with a password */
  constructor(
    allowed: readonly string[] | undefined,
    lookup: Lookup = (host) => dnsLookup(host, { all: true }),
  ) {
    this.#lookups = new NameLookups(lookup);
    this.#everything = allowed === undefined;
    for (const [at, entry] of (allowed ?? []).entries()) {
      if (!this.#allow(entry.trim()))
        throw new Error(
          `entry ${at + 1} is not an address, a range such as 10.0.0.0/8, or a host name such as *.example.com`,
        );
    }
  }

  async resolve(host: string, { signal }: Cancellable): Promise<string[]> {
    const found = isIP(host) === 0 ? await this.#lookups.addresses(host, signal) : [host];
    const allowed = found.filter((address) => this.allows(host, address));
    if (allowed.length > 0) return allowed;
    throw new ActionError('forbidden', `Connecting to ${host} is not allowed: ${this.#reason(found)}`, {
      details: { host },
    });
  }

  /** Whether a connection to this address of this host is allowed. */
  allows(host: string, address: string): boolean {
    const plain = plainAddress(address);
    if (plain === undefined) return false;
    const listed = this.#ranges.filter((range) => contains(range, plain));
    if (isSpecial(plain)) return listed.some(isSpecial);
    if (this.#everything || listed.length > 0) return true;
    return isIP(host) === 0 && this.#names.some((name) => name.test(canonicalHost(host)));
  }

  /** @returns false when it is not an address, a range or a host name */
  #allow(entry: string): boolean {
    const range = rangeOrUndefined(entry);
    if (range !== undefined) {
      this.#ranges.push(range);
      return true;
    }
    if (!isHostAddress(entry.replaceAll('*', 'x')) || /^[\d.*]*\d[\d.*]*$|\.$/.test(entry)) return false;
    const labels = canonicalHost(entry)
      .split('.')
      .map((label) => label.replaceAll('*', '[0-9a-z_-]+(\\.[0-9a-z_-]+)*'));
    this.#names.push(new RegExp(`^${labels.join('\\.')}$`));
    return true;
  }

  #reason(addresses: readonly string[]): string {
    const special = addresses.some((address) => {
      const plain = plainAddress(address);
      return plain === undefined || isSpecial(plain);
    });
    return special
      ? 'loopback, link-local, multicast, reserved and metadata addresses must be listed in ALLOWED_HOSTS'
      : 'it is not listed in ALLOWED_HOSTS';
  }
}

function isSpecial(range: Range): boolean {
  return [range, ...tunnelEnds(range)].some((each) => specialRanges().some((one) => contains(one, each)));
}

/** The IPv4 addresses to which tunnels carry what is sent to these addresses. */
function tunnelEnds(addresses: Range): Range[] {
  return tunnels()
    .filter(({ range }) => contains(range, addresses))
    .map(({ at, inverted }) => {
      const bytes = groupsOf(addresses.address)
        .slice(at / 16, at / 16 + 2)
        .flatMap((group) => [group >> 8, group & 255])
        .map((byte) => (inverted ? 255 - byte : byte));
      return {
        address: bytes.join('.'),
        prefix: Math.min(Math.max(addresses.prefix - at, 0), 32),
        family: 'ipv4',
      };
    });
}

/** The eight groups of a canonical IPv6 address without an embedded IPv4 address, as numbers. */
function groupsOf(address: string): number[] {
  const [before = [], after = []] = address
    .split('::')
    .map((half) => (half === '' ? [] : half.split(':').map((group) => Number.parseInt(group, 16))));
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

/** False for different address families. (A BlockList alone finds every IPv4 address in `::/0`.) */
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
  // An IPv4 address embedded in IPv6 is the last 32 of 128 bits.
  const before = plain.family === 'ipv4' && isIP(base) === 6 ? 96 : 0;
  const prefix = /^\d{1,3}$/.test(bits) ? Number(bits) - before : -1;
  return prefix >= 0 && prefix <= plain.prefix ? { ...plain, prefix } : undefined;
}

/** An address in its canonical form, so that another spelling cannot bypass the policy. */
function plainAddress(address: string): Range | undefined {
  if (isIP(address) === 0 || address.includes('%')) return undefined;
  const plain = canonicalHost(address);
  return isIP(plain) === 4
    ? { address: plain, prefix: 32, family: 'ipv4' }
    : { address: plain, prefix: 128, family: 'ipv6' };
}
