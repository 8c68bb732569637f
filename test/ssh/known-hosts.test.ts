import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { writeFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { knownHostName, parseKnownHosts } from '../../src/ssh/known-hosts.js';
import { testWithSshd } from '../support/sshd.js';
import { testFolder } from './shell-for.js';

const KEY = `ssh-ed25519 ${wireKey('ssh-ed25519')}`;

/** A string of length 4 + n: its type, then any bytes. */
function wireKey(type: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(type.length);
  return Buffer.concat([length, Buffer.from(type), Buffer.alloc(36, 7)]).toString('base64');
}

/** Whether a known_hosts of this text has a line for the host. */
function knows(text: string, host: string, port = 22): boolean {
  return parseKnownHosts(text).entries.some((entry) => entry.matches(knownHostName(host, port)));
}

test('a host is known by its name, in any case of letters', (t) => {
  t.true(knows(`node1.example.com ${KEY} a comment`, 'node1.example.com'));
  t.true(knows(`Node1 ${KEY}`, 'nODE1'));
  t.false(knows(`node1 ${KEY}`, 'node11'));
  t.false(knows(`node1 ${KEY}`, 'node'));
  t.true(knows(`10.0.0.1 ${KEY}`, '10.0.0.1'));
  t.true(knows(`fd00::1 ${KEY}`, 'fd00::1'));
});

test('an address is known in every spelling, in the file and from the caller', (t) => {
  for (const written of ['fd00::1', 'FD00:0:0::1', 'fd00:0:0:0:0:0:0:1']) {
    for (const asked of ['fd00::1', 'FD00::0001']) {
      t.true(knows(`node1,${written} ${KEY}`, asked));
      t.true(knows(`[${written}]:2222 ${KEY}`, asked, 2222));
      t.false(knows(`*,!${written} ${KEY}`, asked));
    }
  }
  t.true(knows(`::ffff:10.0.0.1 ${KEY}`, '10.0.0.1'));
  t.true(knows(`10.0.0.1 ${KEY}`, '::ffff:a00:1'));
});

test('one line may name several hosts', (t) => {
  const text = `node1,10.0.0.1,fd00::1 ${KEY}`;
  for (const host of ['node1', '10.0.0.1', 'fd00::1']) t.true(knows(text, host));
  t.false(knows(text, '10.0.0.2'));
});

test('a host on a port other than 22 is known only as [host]:port', (t) => {
  t.true(knows(`[node1]:2222 ${KEY}`, 'node1', 2222));
  t.false(knows(`[node1]:2222 ${KEY}`, 'node1', 2223));
  t.false(knows(`[node1]:2222 ${KEY}`, 'node1'));
  t.false(knows(`node1 ${KEY}`, 'node1', 2222));
});

test('wildcards match, and a negated pattern excludes', (t) => {
  const text = `*.example.com,10.0.0.?,!bad.example.com ${KEY}`;
  t.true(knows(text, 'node1.example.com'));
  t.true(knows(text, '10.0.0.7'));
  t.false(knows(text, '10.0.0.77'));
  t.false(knows(text, 'bad.example.com'));
  t.false(knows(text, 'example.com'));
  t.false(knows(`!bad ${KEY}`, 'good'));
  t.false(knows(`node.example.com ${KEY}`, 'nodeXexample.com'));
});

test('a hashed name is known by its hash', (t) => {
  const salt = Buffer.from('0123456789abcdefghij');
  const hash = createHmac('sha1', salt).update('[node1]:2222').digest('base64');
  const text = `|1|${salt.toString('base64')}|${hash} ${KEY}`;
  t.true(knows(text, 'NODE1', 2222));
  t.false(knows(text, 'node1'));
  t.false(knows(text, 'node2', 2222));
});

testWithSshd('names that ssh-keygen hashed are known', async (t) => {
  const file = join(await testFolder(t), 'known_hosts');
  await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', `${file}.key`]);
  const key = (await readFile(`${file}.key.pub`, 'utf8')).trim();
  await writeFile(file, `node1 ${key}\n[node2]:2222 ${key}\n`);
  await promisify(execFile)('ssh-keygen', ['-q', '-H', '-f', file]);
  const text = await readFile(file, 'utf8');
  t.false(text.includes('node1'));
  t.true(knows(text, 'node1'));
  t.true(knows(text, 'node2', 2222));
  t.false(knows(text, 'node2'));
});

test('revoked keys are marked, and certificate authorities are apart from the host keys', (t) => {
  const { entries, authorities, malformed } = parseKnownHosts(
    `@revoked node1 ${KEY}\n@cert-authority *.lan,!db.lan ${KEY}\n`,
  );
  t.deepEqual(
    entries.map(({ revoked, keyType }) => ({ revoked, keyType })),
    [{ revoked: true, keyType: 'ssh-ed25519' }],
  );
  t.is(authorities.length, 1);
  t.deepEqual(
    ['web.lan', 'db.lan', 'web'].map((host) => authorities[0]?.matches(host)),
    [true, false, false],
  );
  t.deepEqual(malformed, []);
});

test('lines that cannot be used are reported by their numbers, the others still count', (t) => {
  const lines = [
    '# a comment',
    '',
    `  node1\t${KEY}`,
    'node2',
    'node3 ssh-ed25519',
    'node4 ssh-ed25519 !!!!',
    `node5 ssh-rsa ${wireKey('ssh-ed25519')}`,
    `@unheard-of node6 ${KEY}`,
    '@revoked node7',
    '@cert-authority *',
    `|1|nonsense ${KEY}`,
    `|2|AAAA|AAAA ${KEY}`,
    'node8 1024 35 15992…',
    `node9 ${KEY}`,
  ];
  const { entries, malformed } = parseKnownHosts(lines.join('\r\n'));
  t.deepEqual(malformed, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  t.true(knows(lines.join('\n'), 'node1'));
  t.true(knows(lines.join('\n'), 'node9'));
  t.is(entries.length, 2);
});
