import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import type { ParsedKey } from 'ssh2';
import { ed25519KeyFile } from './ed25519-key-file.js';
import { whenUsed } from '../lib/when-used.js';

const loadSsh2 = whenUsed('ssh2');

/** Why a private key cannot be used. */
export type PrivateKeyReason =
  | 'passphrase_missing'
  | 'passphrase_wrong'
  | 'public_key'
  | 'unsupported_type'
  | 'not_a_key';

const TEXTS: Record<PrivateKeyReason, string> = {
  passphrase_missing: 'it is encrypted, and there is no passphrase',
  passphrase_wrong: 'the passphrase is wrong, or the file is damaged',
  public_key: 'it is a public key',
  unsupported_type: 'its type is not supported; use an Ed25519, RSA or ECDSA (nistp256, 384, 521) key',
  not_a_key: "it is not a private key in OpenSSH's format, a PEM format or PKCS#8",
};

/** A private key that cannot be used. The message contains nothing of the key or the passphrase. */
export class PrivateKeyProblem extends Error {
  override readonly name = 'PrivateKeyProblem';
  readonly reason: PrivateKeyReason;

  constructor(reason: PrivateKeyReason) {
    super(`the SSH private key cannot be used: ${TEXTS[reason]}`);
    this.reason = reason;
  }
}

/**
 * Reads a private key file: OpenSSH's format, the PEM formats of RSA and ECDSA keys, and PKCS#8 (`BEGIN PRIVATE KEY`,
 * `BEGIN ENCRYPTED PRIVATE KEY`).
 * @throws PrivateKeyProblem when the key cannot be used
 */
export function parsePrivateKey(file: Buffer | string, passphrase: string | undefined): ParsedKey {
  const text = (typeof file === 'string' ? file : file.toString('utf8')).replace(/^\u{feff}/u, '');
  const readable = PKCS8.test(text) ? convertedFromPkcs8(text, passphrase) : text;
  const key = loadSsh2().utils.parseKey(readable, passphrase);
  if (key instanceof Error) throw new PrivateKeyProblem(reasonOfSsh2(key.message, passphrase));
  if (!key.isPrivateKey()) throw new PrivateKeyProblem('public_key');
  return readOnce(key);
}

/** The hash of a signature for which ssh2 names none. */
const HASHES: Readonly<Record<string, string>> = {
  'ecdsa-sha2-nistp256': 'sha256',
  'ecdsa-sha2-nistp384': 'sha384',
  'ecdsa-sha2-nistp521': 'sha512',
};

/** ssh2 1.17 lets OpenSSL read the text of the key for each login, which takes ten times as long as to sign with Ed25519. */
function readOnce(key: ParsedKey): ParsedKey {
  const read = createPrivateKey(key.getPrivatePEM());
  key.sign = (data, hash = HASHES[key.type]) => sign(hash, Buffer.from(data), read);
  return key;
}

const PKCS8 = /^-----BEGIN (ENCRYPTED )?PRIVATE KEY-----/m;

/** ssh2 1.17 cannot read PKCS#8. */
function convertedFromPkcs8(text: string, passphrase: string | undefined): string {
  const encrypted = PKCS8.exec(text)?.[1] !== undefined;
  if (encrypted && passphrase === undefined) throw new PrivateKeyProblem('passphrase_missing');
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: text, format: 'pem', passphrase });
  } catch {
    // Without the cause: OpenSSL's texts name neither the passphrase nor the format as the reason.
    throw new PrivateKeyProblem(encrypted ? 'passphrase_wrong' : 'not_a_key');
  }
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return key.export({ type: 'pkcs1', format: 'pem' }).toString();
    case 'ec':
      return key.export({ type: 'sec1', format: 'pem' }).toString();
    case 'ed25519':
      return ed25519KeyFile(key);
    default:
      throw new PrivateKeyProblem('unsupported_type');
  }
}

/** From the messages of ssh2 1.17 (lib/protocol/keyParser.js). */
function reasonOfSsh2(message: string, passphrase: string | undefined): PrivateKeyReason {
  if (message.includes('no passphrase given')) return 'passphrase_missing';
  if (/^Unsupported (?!key format)/.test(message)) return 'unsupported_type';
  if (passphrase !== undefined && /passphrase|integrity|decrypt/i.test(message)) return 'passphrase_wrong';
  return 'not_a_key';
}
