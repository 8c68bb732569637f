import { createHash } from 'node:crypto';
import { mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import type { Logger } from '../lib/logger.js';
import { type KnownHost, keyTypeOf, knownHostName, parseKnownHosts } from './known-hosts.js';
import { type HostKeyReason, hostKeyRefused } from './ssh-errors.js';

/**
 * `strict`: only keys in known_hosts. `accept-new`: the key of a new host is added to known_hosts, and checked from
 * then on. `off`: any key; an attacker between the service and the host can read and change everything.
 */
export type HostKeyMode = 'strict' | 'accept-new' | 'off';

/** What known_hosts says of a host, read before the connection. */
export interface HostKeyCheck {
  /**
   * The key types to offer. An SSH server picks by the client's order, and a host that shows another key than the known
   * one would look changed.
   */
  algorithms: ServerHostKeyAlgorithm[];
  /** Why this key, in wire form, is refused; undefined when it is accepted. */
  judge(key: Buffer): HostKeyReason | undefined;
  /** The error for a refusal; without a key where the host has none of the offered types. */
  refusal(reason: HostKeyReason, key?: Buffer): Error;
  /** Records the key of a new host; for an accepted key that the host has proven to own. */
  remember(key: Buffer): Promise<void>;
}

/** In the order of preference. SHA-1 signatures (`ssh-rsa`) and DSA are left out, as OpenSSH does since 8.8 and 7.0. */
const ALGORITHMS: Record<string, readonly ServerHostKeyAlgorithm[]> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  // One type of key, two signatures (RFC 8332).
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
};

/** The keys of hosts, in a known_hosts file that is read again for each connection. */
export class HostKeys {
  readonly #mode: HostKeyMode;
  readonly #file: string;
  readonly #log: Logger;
  #read: { text: string; entries: KnownHost[] } = { text: '', entries: [] };
  #writing: Promise<void> = Promise.resolve();

  constructor(options: { mode: HostKeyMode; file: string; log: Logger }) {
    this.#mode = options.mode;
    this.#file = options.file;
    this.#log = options.log;
  }

  /** Throws `host_key_refused`, reason `known_hosts_unusable`, when the file cannot be read; a missing file counts as empty. */
  async check(host: string, port: number): Promise<HostKeyCheck> {
    if (this.#mode === 'off') {
      const algorithms = Object.values(ALGORITHMS).flat();
      const refusal = (reason: HostKeyReason) => hostKeyRefused(host, reason);
      return { algorithms, judge: () => undefined, refusal, remember: async () => undefined };
    }
    const { known, revoked } = await this.#entries(host, port);
    const types = [...new Set(known.map((each) => each.keyType))];
    const offered = types.length === 0 ? Object.keys(ALGORITHMS) : preferredFirst(types);
    return {
      algorithms: offered.flatMap((type) => ALGORITHMS[type] ?? []),
      judge: (key) => judge(key, known, revoked, this.#mode === 'accept-new'),
      refusal: (reason, key) => hostKeyRefused(host, reason, facts(types, key)),
      remember: (key) => (types.length === 0 ? this.#remember(host, port, key) : Promise.resolve()),
    };
  }

  async #entries(host: string, port: number): Promise<{ known: KnownHost[]; revoked: KnownHost[] }> {
    const name = knownHostName(host, port);
    const entries = (await this.#readFile(host)).filter((entry) => entry.matches(name));
    return {
      known: entries.filter((entry) => !entry.revoked),
      revoked: entries.filter((entry) => entry.revoked),
    };
  }

  async #readFile(host: string): Promise<KnownHost[]> {
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (cause) {
      if (isMissing(cause)) return [];
      throw hostKeyRefused(host, 'known_hosts_unusable', {}, cause);
    }
    // Parsed, and its problems logged, once for each change of the file.
    if (text !== this.#read.text) {
      const { entries, malformed } = parseKnownHosts(text);
      this.#read = { text, entries };
      if (malformed.length > 0) {
        this.#log.warn('known_hosts has lines that cannot be used', { file: this.#file, lines: malformed });
      }
    }
    return this.#read.entries;
  }

  /** One after the other: two connections may meet the same new host. */
  #remember(host: string, port: number, key: Buffer): Promise<void> {
    const written = this.#writing.then(() => this.#write(host, port, key));
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #write(host: string, port: number, key: Buffer): Promise<void> {
    const { known, revoked } = await this.#entries(host, port);
    const reason = judge(key, known, revoked, true);
    if (reason !== undefined) throw hostKeyRefused(host, reason, facts([], key));
    if (known.length > 0) return;
    const line = `${knownHostName(host, port)} ${keyTypeOf(key)} ${key.toString('base64')}\n`;
    try {
      await appendLine(this.#file, line);
    } catch (cause) {
      // To continue would mean to accept any key the next time, too.
      throw hostKeyRefused(host, 'known_hosts_unusable', {}, cause);
    }
    this.#log.info('new host added to known_hosts', { host, ...facts([], key) });
  }
}

function judge(
  key: Buffer,
  known: readonly KnownHost[],
  revoked: readonly KnownHost[],
  acceptNew: boolean,
): HostKeyReason | undefined {
  const isKey = (entry: KnownHost) => entry.key.equals(key);
  if (revoked.some(isKey)) return 'revoked';
  if (known.some(isKey)) return undefined;
  if (known.length > 0) return 'changed';
  return acceptNew ? undefined : 'unknown';
}

function preferredFirst(types: readonly string[]): string[] {
  return Object.keys(ALGORITHMS).filter((type) => types.includes(type));
}

/** The fingerprint has the form of `ssh-keygen -l`. */
function facts(knownKeyTypes: string[], key: Buffer | undefined) {
  const fingerprint = key && `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
  return {
    ...(key && { keyType: keyTypeOf(key), fingerprint }),
    ...(knownKeyTypes.length > 0 && { knownKeyTypes }),
  };
}

/** Appends in one write, so that processes that share the file do not mix their lines. */
async function appendLine(file: string, line: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const handle = await open(file, 'a+', 0o600);
  try {
    const { size } = await handle.stat();
    const last = size > 0 ? (await handle.read(Buffer.alloc(1), 0, 1, size - 1)).buffer.toString() : '\n';
    await handle.write(last === '\n' ? line : `\n${line}`);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
