import { createHmac } from 'node:crypto';
import { canonicalHost, globMatcher } from '../api/grammar.js';

/** One valid line of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
export interface KnownHost {
  /** True for a line with `@revoked`: this key must not be accepted for these hosts. */
  revoked: boolean;
  /** Whether the line applies to this host; `name` is made by `knownHostName`. */
  matches(name: string): boolean;
  /** Such as `ssh-ed25519`. */
  keyType: string;
  /** The public key in wire format (RFC 4253, section 6.6). */
  key: Buffer;
}

/** What a known_hosts file contains. */
export interface KnownHosts {
  /** The valid lines with a host key. */
  entries: KnownHost[];
  /** The valid `@cert-authority` lines. They make no host known, because ssh2 does not support host certificates. */
  authorities: KnownHost[];
  /** The numbers of the malformed lines, counted from 1. */
  malformed: number[];
}

/** Parses a known_hosts file. Blank lines and comments are ignored. */
export function parseKnownHosts(text: string): KnownHosts {
  const entries: KnownHost[] = [];
  const authorities: KnownHost[] = [];
  const malformed: number[] = [];
  for (const [index, line] of text
    .replace(/^\u{feff}/u, '')
    .split(/\r?\n/)
    .entries()) {
    const fields = line.split(/[ \t]+/).filter((field) => field !== '');
    if (fields.length === 0 || fields[0]?.startsWith('#')) continue;
    const isAuthority = fields[0] === '@cert-authority';
    const entry = parseFields(isAuthority ? fields.slice(1) : fields);
    if (entry === undefined) malformed.push(index + 1);
    else (isAuthority ? authorities : entries).push(entry);
  }
  return { entries, authorities, malformed };
}

/** The port whose hosts have a name without a port. */
export const DEFAULT_PORT = 22;

/**
 * The name of a host in known_hosts: `host`, or `[host]:port` when the port is not 22. The host is in its canonical
 * form, so that a known host in another spelling is not accepted as a new one.
 */
export function knownHostName(host: string, port: number): string {
  const name = canonicalHost(host);
  return port === DEFAULT_PORT ? name : `[${name}]:${port}`;
}

/** The key type in a public key in wire format; undefined when the format is invalid. */
export function keyTypeOf(key: Buffer): string | undefined {
  if (key.length < 4) return undefined;
  const end = 4 + key.readUInt32BE(0);
  return end < key.length ? key.toString('latin1', 4, end) : undefined;
}

function parseFields(fields: string[]): KnownHost | undefined {
  const revoked = fields[0] === '@revoked';
  const [hosts, keyType, base64] = revoked ? fields.slice(1) : fields;
  if (hosts === undefined || keyType === undefined || base64 === undefined) return undefined;
  const matches = hostMatcher(hosts);
  const key = Buffer.from(base64, 'base64');
  if (matches === undefined || keyTypeOf(key) !== keyType) return undefined;
  return { revoked, matches, keyType, key };
}

function hostMatcher(hosts: string): KnownHost['matches'] | undefined {
  if (hosts.startsWith('@')) return undefined;
  return hosts.startsWith('|') ? hashedMatcher(hosts) : patternsMatcher(hosts);
}

/**
 * `|1|SALT|HASH`: HMAC-SHA1 of the name with the salt as its key (OpenSSH, hostfile.c). A hashed address matches only
 * if it was hashed in its canonical form.
 */
function hashedMatcher(text: string): KnownHost['matches'] | undefined {
  const [, salt, hash] = /^\|1\|([A-Za-z0-9+/]+=*)\|([A-Za-z0-9+/]{27}=)$/.exec(text) ?? [];
  if (salt === undefined || hash === undefined) return undefined;
  const saltBytes = Buffer.from(salt, 'base64');
  return (name) => createHmac('sha1', saltBytes).update(name).digest('base64') === hash;
}

/** `a,b*,!bad`: matches one of the patterns and none of the negated ones. */
function patternsMatcher(hosts: string): KnownHost['matches'] {
  const patterns = hosts.toLowerCase().split(',');
  const matcher = (pattern: string) => globMatcher(canonicalPattern(pattern));
  const negated = patterns.filter((each) => each.startsWith('!')).map((each) => matcher(each.slice(1)));
  const wanted = patterns.filter((each) => !each.startsWith('!')).map((each) => matcher(each));
  return (name) => wanted.some((matches) => matches(name)) && !negated.some((matches) => matches(name));
}

/** A pattern that is an address, in its canonical form; other patterns unchanged. */
function canonicalPattern(pattern: string): string {
  const [, address = pattern, port = ''] = /^\[([^\]]*)\](:\d+)$/.exec(pattern) ?? [];
  const plain = canonicalHost(address);
  return port === '' ? plain : `[${plain}]${port}`;
}
