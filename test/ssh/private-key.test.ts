import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { ed25519KeyFile } from '../../src/ssh/ed25519-key-file.js';
import { parsePrivateKey, PrivateKeyProblem, type PrivateKeyReason } from '../../src/ssh/private-key.js';
import { makeKey, testWithSshd } from '../support/sshd.js';
import { notAborted, ownSshd, shellFor, testFolder } from './shell-for.js';

const PASSPHRASE = ' open sesame ';

const KEYS: Readonly<Record<string, () => KeyObject>> = {
  'ssh-ed25519': () => generateKeyPairSync('ed25519').privateKey,
  'ssh-rsa': () => generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey,
  'ecdsa-sha2-nistp256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  'ecdsa-sha2-nistp384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
  'ecdsa-sha2-nistp521': () => generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey,
};

function pkcs8(key: KeyObject, passphrase?: string): string {
  const encryption = passphrase === undefined ? {} : { cipher: 'aes-256-cbc', passphrase };
  return key.export({ type: 'pkcs8', format: 'pem', ...encryption }).toString();
}

for (const [type, generate] of Object.entries(KEYS)) {
  testWithSshd(`a ${type} key in PKCS#8 logs in, encrypted or not`, async (t) => {
    const sshd = await ownSshd(t);
    const key = generate();
    const publicKey = parsePrivateKey(pkcs8(key), undefined).getPublicSSH().toString('base64');
    await writeFile(sshd.authorizedKeyFile, `${type} ${publicKey}\n`);
    for (const [privateKey, passphrase] of [
      [pkcs8(key), undefined],
      [pkcs8(key), 'not needed'],
      [pkcs8(key, PASSPHRASE), PASSPHRASE],
      [`\u{feff}${pkcs8(key).replaceAll('\n', '\r\n')}`, undefined],
    ] as const) {
      const shell = await shellFor(t, [sshd], { privateKey, passphrase });
      t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
    }
  });
}

test('every Ed25519 key in PKCS#8 is read with its own public key', (t) => {
  // More than 256, since some have a public key with a leading zero.
  for (let n = 0; n < 600; n += 1) {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const point = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
    const parsed = parsePrivateKey(pkcs8(privateKey), undefined);
    t.true(parsed.getPublicSSH().subarray(-32).equals(point));
    t.deepEqual([parsed.verify('text', parsed.sign('text'))], [true]);
  }
});

test('ssh-keygen accepts the key file that is made of an Ed25519 key', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const file = join(await testFolder(t), 'key');
  await writeFile(file, ed25519KeyFile(privateKey), { mode: 0o600 });
  const [type, key = ''] = execFileSync('ssh-keygen', ['-y', '-f', file], { encoding: 'utf8' }).split(' ');
  t.is(type, 'ssh-ed25519');
  const point = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
  t.deepEqual(Buffer.from(key, 'base64').subarray(-32), point);
});

function reasonFor(file: string | Buffer, passphrase?: string): PrivateKeyReason | undefined {
  try {
    parsePrivateKey(file, passphrase);
    return undefined;
  } catch (error) {
    if (error instanceof PrivateKeyProblem) return error.reason;
    throw error;
  }
}

test('a key that cannot be used is refused with the reason, which contains no secret', (t) => {
  const key = generateKeyPairSync('ed25519').privateKey;
  t.is(reasonFor(pkcs8(key, PASSPHRASE)), 'passphrase_missing');
  t.is(reasonFor(pkcs8(key, PASSPHRASE), PASSPHRASE.trim()), 'passphrase_wrong');
  t.is(reasonFor(pkcs8(key).replace(/^[^-].{8}/m, 'AAAAAAAAA')), 'not_a_key');
  t.is(reasonFor(''), 'not_a_key');
  t.is(reasonFor('ssh-ed25519'), 'not_a_key');
  const unsupported = [
    generateKeyPairSync('ed448').privateKey,
    generateKeyPairSync('rsa-pss', { modulusLength: 2_048 }).privateKey,
    generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey,
  ];
  for (const each of unsupported) t.is(reasonFor(pkcs8(each)), 'unsupported_type', each.asymmetricKeyType);
  const error = t.throws(() => parsePrivateKey(pkcs8(key, PASSPHRASE), 'wrong secret'));
  t.false(error?.message.includes('secret'));
});

testWithSshd('keys in the formats of ssh-keygen are read, and refused with the same reasons', async (t) => {
  const folder = await testFolder(t);
  for (const type of ['ed25519', 'ecdsa', 'rsa'] as const) {
    const file = join(folder, type);
    await makeKey(file, type, PASSPHRASE);
    const content = await readFile(file);
    t.is(reasonFor(content, PASSPHRASE), undefined, type);
    t.is(reasonFor(content, 'wrong'), 'passphrase_wrong', type);
    t.is(reasonFor(content), 'passphrase_missing', type);
    t.is(reasonFor(await readFile(`${file}.pub`)), 'public_key', type);
  }
});
