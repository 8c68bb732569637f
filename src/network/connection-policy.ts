import { lookup as dnsLookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { ActionError } from '../action-error.js';
import { isHostAddress } from '../grammar.js';

/** Says where this service may connect. */
export interface ConnectionPolicy {
  /**
   * The addresses that a host name or address stands for and that may be connected to, and no others: connect to one
   * of them, not to the name, which may stand for something else a moment later.
   * @throws ActionError `forbidden` when policy allows none of them; the resolver's own error when there are none
   */
  resolve(host: string): Promise<string[]>;
}

type Lookup = (host: string) => Promise<readonly { address: string }[]>;

interface Range {
  address: string;
  prefix: number;
  family: 'ipv4' | 'ipv6';
}

/** Addresses that mean "this machine", "this link", or no one machine: allowed only where they are listed as such. */
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
 * The policy that `ALLOWED_HOSTS` writes down: addresses, CIDR ranges, and host names, in which `*` stands for one or
 * more labels. Without a list everything is allowed but loopback, link-local, multicast and unspecified addresses. With
 * a list nothing else is; and of those special addresses only what an address or a range lists that lies wholly among
 * them (`127.0.0.0/8`; neither `0.0.0.0/0` nor a name opens them).
 */
export class HostPolicy implements ConnectionPolicy {
  readonly #lookup: Lookup;
  readonly #everything: boolean;
  readonly #ranges = new BlockList();
  readonly #specialRanges = new BlockList();
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
    const { text, family } = plain;
    if (isSpecial(text, family)) return this.#specialRanges.check(text, family);
    if (this.#everything || this.#ranges.check(text, family)) return true;
    return isIP(host) === 0 && this.#names.some((name) => name.test(host));
  }

  #allow(entry: string): void {
    const range = rangeOrUndefined(entry);
    if (range !== undefined) {
      this.#ranges.addSubnet(range.address, range.prefix, range.family);
      if (SPECIAL.some((each) => contains(each, range))) {
        this.#specialRanges.addSubnet(range.address, range.prefix, range.family);
      }
    } else if (isHostAddress(entry.replaceAll('*', 'x'))) {
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
      return plain === undefined || isSpecial(plain.text, plain.family);
    });
    return special
      ? 'loopback, link-local, multicast and unspecified addresses have to be listed in ALLOWED_HOSTS'
      : 'it is not listed in ALLOWED_HOSTS';
  }
}

function isSpecial(address: string, family: Range['family']): boolean {
  return SPECIAL.some((range) => contains(range, { address, family, prefix: family === 'ipv4' ? 32 : 128 }));
}

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
  const most = plain.family === 'ipv4' ? 32 : 128;
  if (bits === undefined) return { address: plain.text, prefix: most, family: plain.family };
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > most) return undefined;
  return { address: plain.text, prefix: Number(bits), family: plain.family };
}

/** An address in one form only: an IPv4 address written as IPv6 (`::ffff:a.b.c.d`, `::a.b.c.d`) as the IPv4 it is. */
function plainAddress(address: string): { text: string; family: Range['family'] } | undefined {
  if (isIP(address) === 4) return { text: address, family: 'ipv4' };
  if (isIP(address) !== 6 || address.includes('%')) return undefined;
  // The URL parser writes every IPv6 address in its one canonical form (RFC 5952).
  const text = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const embedded = /^::(?:ffff:)?([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(text);
  if (embedded === null) return { text, family: 'ipv6' };
  const [high, low] = [Number.parseInt(embedded[1] ?? '', 16), Number.parseInt(embedded[2] ?? '', 16)];
  return { text: `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`, family: 'ipv4' };
}
