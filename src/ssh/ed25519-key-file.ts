import type { KeyObject } from 'node:crypto';

const KEY_TYPE = 'ssh-ed25519';
/** Fills up the last block of 8 bytes. Every Ed25519 key without a comment leaves the same rest. */
const PADDING = Buffer.from([1, 2, 3, 4, 5]);

/** An Ed25519 private key in OpenSSH's format, not encrypted (OpenSSH, PROTOCOL.key). It has no PEM format of its own. */
export function ed25519KeyFile(privateKey: KeyObject): string {
  const { d = '', x = '' } = privateKey.export({ format: 'jwk' });
  const [seed, point] = [Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')];
  const publicKey = Buffer.concat([string(KEY_TYPE), string(point)]);
  const secret = Buffer.concat([
    // Two equal numbers, by which a reader would see that it decrypted with the right passphrase.
    uint32(0),
    uint32(0),
    publicKey,
    string(Buffer.concat([seed, point])),
    string('' /* comment */),
  ]);
  const file = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    string('none' /* cipher */),
    string('none' /* key derivation */),
    string('' /* its options */),
    uint32(1 /* number of keys */),
    string(publicKey),
    string(Buffer.concat([secret, PADDING])),
  ]);
  const label = 'OPENSSH PRIVATE KEY';
  return `-----BEGIN ${label}-----\n${file.toString('base64').replace(/.{70}/g, '$&\n')}\n-----END ${label}-----\n`;
}

/** A `string` of SSH's wire format (RFC 4251, section 5). */
function string(content: Buffer | string): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
