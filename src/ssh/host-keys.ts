import { createHash } from 'node:crypto';
import { mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import type { Logger } from '../lib/logger.js';
import { SharedRuns } from '../lib/shared-runs.js';
import {
  DEFAULT_PORT,
  type KnownHost,
  type KnownHosts,
  keyTypeOf,
  knownHostName,
  parseKnownHosts,
} from './known-hosts.js';
import { type HostKeyReason, hostKeyRefused } from './ssh-errors.js';

/**
 * `strict`: accepts only keys in known_hosts. `accept-new`: also accepts the key of an unknown host and adds it to
 * known_hosts. `off`: accepts any key, which allows man-in-the-middle attacks.
 */
export type HostKeyMode = 'strict' | 'accept-new' | 'off';

/** Checks the host key of one connection. */
export interface HostKeyCheck {
  /**
   * The algorithms to offer. For a known host only those of its known keys: the server chooses by the client's
   * preference, and a valid key of another type would look like a changed key.
   */
  algorithms: ServerHostKeyAlgorithm[];
  /** Why this key, in wire format, is refused; undefined when it is accepted. */
  problemWith(key: Buffer): HostKeyReason | undefined;
  /** The error for a refusal. There is no key when the host has none of the offered types. */
  refusal(reason: HostKeyReason, key?: Buffer): Error;
  /** Adds a new host to known_hosts. Call it only for an accepted key that the host has proven to own. */
  remember(key: Buffer): Promise<void>;
}

/** In order of preference. Without SHA-1 signatures (`ssh-rsa`) and DSA, like OpenSSH since 8.8 and 7.0. */
const ALGORITHMS: Record<string, readonly ServerHostKeyAlgorithm[]> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  // One key type with two signature algorithms (RFC 8332).
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
};

const NEVER_ABORTED = new AbortController().signal;

/** The host keys in a known_hosts file. The file is read for each connection; those that begin at the same time share a reading. */
export class HostKeys {
  readonly #mode: HostKeyMode;
  readonly #file: string | undefined;
  readonly #log: Logger;
  readonly #readings = new SharedRuns();
  #read: { text: string; hosts: KnownHosts } = { text: '', hosts: parseKnownHosts('') };
  #writing: Promise<void> = Promise.resolve();

  constructor(options: { mode: HostKeyMode; file: string | undefined; log: Logger }) {
    this.#mode = options.mode;
    this.#file = options.file;
    this.#log = options.log;
  }

  /**
   * Throws `host_key_refused`, reason `known_hosts_unusable`, when the file cannot be read, and `no_known_hosts` when there
   * is no path of one. A missing file counts as empty.
   */
  async check(host: string, port: number): Promise<HostKeyCheck> {
    if (this.#mode === 'off') {
      const algorithms = Object.values(ALGORITHMS).flat();
      const refusal = (reason: HostKeyReason) => hostKeyRefused(host, reason);
      return { algorithms, problemWith: () => undefined, refusal, remember: async () => undefined };
    }
    const entries = await this.#entries(host, port);
    const { known } = entries;
    const types = [...new Set(known.map((each) => each.keyType))];
    const offered = types.length === 0 ? allTypes(entries.withoutPort) : preferredFirst(types);
    return {
      algorithms: offered.flatMap((type) => ALGORITHMS[type] ?? []),
      problemWith: (key) => problemWith(key, entries, this.#mode === 'accept-new'),
      refusal: (reason, key) => hostKeyRefused(host, reason, facts(types, key)),
      remember: (key) => (types.length === 0 ? this.#remember(host, port, key) : Promise.resolve()),
    };
  }

  async #entries(host: string, port: number): Promise<EntriesOfHost> {
    const name = knownHostName(host, port);
    const { entries, authorities } = await this.#readFile(host);
    const own = entries.filter((entry) => entry.matches(name));
    const known = own.filter((entry) => !entry.revoked);
    const nameWithoutPort = knownHostName(host, DEFAULT_PORT);
    const others = known.length > 0 ? [] : entries.filter((entry) => entry.matches(nameWithoutPort));
    return {
      known,
      withoutPort: others.filter((entry) => !entry.revoked),
      revoked: [...own, ...others].filter((entry) => entry.revoked),
      hasAuthority: authorities.some((authority) => authority.matches(name)),
    };
  }

  async #readFile(host: string): Promise<KnownHosts> {
    const file = this.#fileFor(host);
    let text: string;
    try {
      text = await this.#readings.run(file, NEVER_ABORTED, async () => readFile(file, 'utf8'));
    } catch (cause) {
      if (isMissing(cause)) return parseKnownHosts('');
      throw hostKeyRefused(host, 'known_hosts_unusable', {}, cause);
    }
    // The file is parsed, and its malformed lines are logged, only after a change.
    if (text !== this.#read.text) {
      const hosts = parseKnownHosts(text);
      this.#read = { text, hosts };
      if (hosts.malformed.length > 0) {
        this.#log.warn('known_hosts has malformed lines', { file, lines: hosts.malformed });
      }
    }
    return this.#read.hosts;
  }

  #fileFor(host: string): string {
    if (this.#file === undefined) throw hostKeyRefused(host, 'no_known_hosts');
    return this.#file;
  }

  /** Writes one entry at a time, because two connections may add the same new host. */
  #remember(host: string, port: number, key: Buffer): Promise<void> {
    const written = this.#writing.then(() => this.#write(host, port, key));
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #write(host: string, port: number, key: Buffer): Promise<void> {
    const entries = await this.#entries(host, port);
    const reason = problemWith(key, entries, true);
    if (reason !== undefined) throw hostKeyRefused(host, reason, facts([], key));
    if (entries.known.length > 0 || hasKey(entries.withoutPort, key)) return;
    const line = `${knownHostName(host, port)} ${keyTypeOf(key)} ${key.toString('base64')}\n`;
    try {
      await appendLine(this.#fileFor(host), line);
    } catch (cause) {
      // Refused, because an unsaved host would be accepted with any key the next time.
      throw hostKeyRefused(host, 'known_hosts_unusable', {}, cause);
    }
    this.#log.info('host added to known_hosts', { host, ...facts([], key) });
  }
}

/** What known_hosts contains for one host. */
interface EntriesOfHost {
  known: readonly KnownHost[];
  /**
   * The keys of its name without the port, when its own name has none: as in OpenSSH (sshconnect.c, `check_host_key`) these are
   * accepted too, and another key is unknown, not changed.
   */
  withoutPort: readonly KnownHost[];
  revoked: readonly KnownHost[];
  /** Whether there is a `@cert-authority` line. */
  hasAuthority: boolean;
}

function problemWith(
  key: Buffer,
  { known, withoutPort, revoked, hasAuthority }: EntriesOfHost,
  acceptNew: boolean,
): HostKeyReason | undefined {
  if (hasKey(revoked, key)) return 'revoked';
  if (hasKey(known, key) || hasKey(withoutPort, key)) return undefined;
  if (known.length > 0) return 'changed';
  if (acceptNew) return undefined;
  return hasAuthority ? 'only_certificate_authority' : 'unknown';
}

function hasKey(entries: readonly KnownHost[], key: Buffer): boolean {
  return entries.some((entry) => entry.key.equals(key));
}

/** All types; first those of these keys, so that the server shows one that may be accepted. */
function allTypes(entries: readonly KnownHost[]): string[] {
  const first = preferredFirst(entries.map(({ keyType }) => keyType));
  return [...first, ...Object.keys(ALGORITHMS).filter((type) => !first.includes(type))];
}

function preferredFirst(types: readonly string[]): string[] {
  return Object.keys(ALGORITHMS).filter((type) => types.includes(type));
}

/** Key facts for errors and logs; the fingerprint is in the format of `ssh-keygen -l`. */
function facts(knownKeyTypes: string[], key: Buffer | undefined) {
  const fingerprint = key && `SHA256:${createHash('sha256').update(key).digest('base64').replace('=', '')}`;
  return {
    ...(key && { keyType: keyTypeOf(key), fingerprint }),
    ...(knownKeyTypes.length > 0 && { knownKeyTypes }),
  };
}

/** Appends to the disk with one write, so that the lines of processes that share the file do not mix. */
async function appendLine(file: string, line: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const handle = await open(file, 'as+', 0o600);
  try {
    const { size } = await handle.stat();
    const last = size > 0 ? (await handle.read(Buffer.alloc(1), 0, 1, size - 1)).buffer.toString() : '\n';
    await handle.write(last === '\n' ? line : `\n${line}`);
  } finally {
    await handle.close();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
