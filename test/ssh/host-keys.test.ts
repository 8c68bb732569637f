import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import ssh2 from 'ssh2';
import { HostKeys } from '../../src/ssh/host-keys.js';
import { SshShell } from '../../src/ssh/ssh-shell.js';
import { makeKey, publicKey, type Sshd, startSshd, testWithSshd } from '../support/sshd.js';
import {
  anyAddress,
  notAborted,
  errorOf,
  keepingLog,
  knownHostLines,
  ownSshd,
  shellFor,
  testFolder,
} from './shell-for.js';

const name = ({ address, port }: Sshd) => `[${address}]:${port}`;

let starting: Promise<Sshd> | undefined;

/** The server of all tests that do nothing to it. */
function sharedSshd(): Promise<Sshd> {
  starting ??= startSshd();
  return starting;
}

test.after.always(async () => (await starting)?.stop());

/** A public key that no server has. */
async function strangeKey(folder: string): Promise<string> {
  const file = join(folder, 'strange');
  await makeKey(file);
  return publicKey(`${file}.pub`);
}

testWithSshd('an unknown host is refused with its key, and nothing is run there', async (t) => {
  const sshd = await sharedSshd();
  const folder = await testFolder(t);
  const shell = await shellFor(t, [sshd], { knownHosts: '' });
  const error = await errorOf(shell.run(sshd.address, ['touch', join(folder, 'canary')], notAborted()));
  t.is(error.code, 'host_key_refused');
  await writeFile(join(folder, 'host.pub'), `${sshd.hostKeys.ed25519}\n`);
  const { stdout } = await promisify(execFile)('ssh-keygen', ['-lf', join(folder, 'host.pub')]);
  t.deepEqual(error.details, {
    host: sshd.address,
    reason: 'unknown',
    keyType: 'ssh-ed25519',
    fingerprint: stdout.split(' ')[1],
  });
  await t.throwsAsync(stat(join(folder, 'canary')), { code: 'ENOENT' });
});

testWithSshd(
  'a host of which known_hosts has only a certificate authority is refused with that reason',
  async (t) => {
    const sshd = await sharedSshd();
    const key = await strangeKey(await testFolder(t));
    const authority = `@cert-authority * ${key}\n`;
    const echoWith = async (knownHosts: string, hostKeys: 'strict' | 'accept-new' = 'strict') => {
      const shell = await shellFor(t, [sshd], { knownHosts, hostKeys });
      return shell.run(sshd.address, ['echo', 'hi'], notAborted());
    };
    const error = await errorOf(echoWith(authority));
    t.is(error.code, 'host_key_refused');
    t.like(error.details, { reason: 'only_certificate_authority' });
    t.regex(error.message, /known_hosts has only @cert-authority lines for it/);
    t.like((await errorOf(echoWith(`@cert-authority other.lan ${key}\n`))).details, { reason: 'unknown' });
    t.is((await echoWith(`${authority}${knownHostLines(sshd)}`)).stdout, 'hi\n');
    t.is((await echoWith(authority, 'accept-new')).stdout, 'hi\n');
  },
);

testWithSshd(
  'a key is also known by a line without the port, unless a line with the port has another one',
  async (t) => {
    const sshd = await ownSshd(t, { hostKeyTypes: ['ed25519', 'ecdsa'] });
    const { ed25519, ecdsa } = sshd.hostKeys;
    const strange = await strangeKey(await testFolder(t));
    const host = sshd.address;
    /** Why this service refuses the host with these lines; undefined: it does not. OpenSSH has to agree. */
    const refusal = async (...lines: string[]) => {
      const knownHostsFile = join(await testFolder(t), 'known_hosts');
      await writeFile(knownHostsFile, lines.join('\n'));
      const shell = await shellFor(t, [sshd], { knownHostsFile });
      const reason = await shell.run(host, ['true'], notAborted()).then(
        () => undefined,
        ({ details }: { details: { reason: string } }) => details.reason,
      );
      const options = [
        'BatchMode=yes',
        'StrictHostKeyChecking=yes',
        `UserKnownHostsFile=${knownHostsFile}`,
        'GlobalKnownHostsFile=/dev/null',
      ];
      const ssh = promisify(execFile)('ssh', [
        '-F',
        'none',
        '-i',
        sshd.privateKeyFile,
        '-p',
        String(sshd.port),
        ...options.flatMap((option) => ['-o', option]),
        `${sshd.user}@${host}`,
        'true',
      ]);
      t.is(
        await ssh.then(
          () => true,
          () => false,
        ),
        reason === undefined,
        lines.join('\n'),
      );
      t.is(await readFile(knownHostsFile, 'utf8'), lines.join('\n'));
      return reason;
    };
    t.is(await refusal(`${host} ${ed25519}`), undefined);
    t.is(await refusal(`${host} ${strange}`), 'unknown');
    t.is(await refusal(`${host} ${ed25519}`, `${name(sshd)} ${strange}`), 'changed');
    t.is(await refusal(`${host} ${ed25519}`, `@revoked ${host} ${ed25519}`), 'revoked');
    t.is(await refusal(`${host} ${ed25519}`, `@revoked * ${strange}`), undefined);
    t.is(await refusal(`${name(sshd)} ${ed25519}`, `@revoked ${host} ${ed25519}`), undefined);
    // OpenSSH does not ask the server for the key type of such a line first.
    const shell = await shellFor(t, [sshd], { knownHosts: `${host} ${ecdsa}` });
    t.is((await shell.run(host, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  },
);

testWithSshd(
  'a new host is not saved when a line without the port has its key, and is when it has another one',
  async (t) => {
    const sshd = await sharedSshd();
    const strange = await strangeKey(await testFolder(t));
    for (const [key, added] of [
      [sshd.hostKeys.ed25519, ''],
      [strange, knownHostLines(sshd)],
    ]) {
      const knownHostsFile = join(await testFolder(t), 'known_hosts');
      await writeFile(knownHostsFile, `${sshd.address} ${key}\n`);
      const shell = await shellFor(t, [sshd], { knownHostsFile, hostKeys: 'accept-new' });
      await shell.run(sshd.address, ['true'], notAborted());
      t.is(await readFile(knownHostsFile, 'utf8'), `${sshd.address} ${key}\n${added}`);
    }
  },
);

testWithSshd('a host without a known_hosts file is unknown', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd], { knownHostsFile: join(await testFolder(t), 'none') });
  const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
  t.like(error.details, { reason: 'unknown' });
});

testWithSshd(
  'without a place for a known_hosts file only calls that need it ask for SSH_KNOWN_HOSTS',
  async (t) => {
    const sshd = await sharedSshd();
    const echo = async (hostKeys: 'strict' | 'accept-new' | 'off') => {
      const shell = await shellFor(t, [sshd], { knownHostsFile: undefined, hostKeys });
      return shell.run(sshd.address, ['echo', 'hi'], notAborted());
    };
    for (const hostKeys of ['strict', 'accept-new'] as const) {
      const error = await errorOf(echo(hostKeys));
      t.like(error.details, { reason: 'no_known_hosts' });
      t.regex(error.message, /no home folder .*SSH_KNOWN_HOSTS must name one/);
    }
    t.is((await echo('off')).stdout, 'hi\n');
  },
);

testWithSshd('a host with another key than the known one is refused, and nothing is run there', async (t) => {
  const sshd = await sharedSshd();
  const folder = await testFolder(t);
  const knownHosts = `${name(sshd)} ${await strangeKey(folder)}\n`;
  const shell = await shellFor(t, [sshd], { knownHosts });
  const error = await errorOf(shell.run(sshd.address, ['touch', join(folder, 'canary')], notAborted()));
  t.is(error.code, 'host_key_refused');
  t.like(error.details, { reason: 'changed', knownKeyTypes: ['ssh-ed25519'] });
  await t.throwsAsync(stat(join(folder, 'canary')), { code: 'ENOENT' });
});

testWithSshd('a host that no longer has a key of the known type is refused with that type', async (t) => {
  const sshd = await ownSshd(t, { hostKeyTypes: ['ecdsa'] });
  const knownHosts = `${name(sshd)} ${await strangeKey(await testFolder(t))}\n`;
  const shell = await shellFor(t, [sshd], { knownHosts });
  const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
  t.is(error.code, 'host_key_refused');
  t.deepEqual(error.details, {
    host: sshd.address,
    reason: 'no_accepted_type',
    knownKeyTypes: ['ssh-ed25519'],
  });
});

testWithSshd('a host that signs only with SHA-1 is refused, and not as changed', async (t) => {
  const sshd = await ownSshd(t, { hostKeyTypes: ['rsa'], config: ['HostKeyAlgorithms ssh-rsa'] });
  for (const knownHosts of ['', knownHostLines(sshd)]) {
    const shell = await shellFor(t, [sshd], { knownHosts, hostKeys: 'accept-new' });
    const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
    t.is(error.code, 'host_key_refused');
    t.like(error.details, { reason: 'no_accepted_type' });
  }
});

testWithSshd('a revoked key is refused, even where it is also known', async (t) => {
  const sshd = await sharedSshd();
  for (const known of ['', knownHostLines(sshd)]) {
    const knownHosts = `${known}@revoked * ${sshd.hostKeys.ed25519}\n`;
    const shell = await shellFor(t, [sshd], { knownHosts });
    const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
    t.is(error.code, 'host_key_refused');
    t.like(error.details, { reason: 'revoked' });
  }
});

testWithSshd('a host known by a hashed name is trusted', async (t) => {
  const sshd = await sharedSshd();
  const knownHostsFile = join(await testFolder(t), 'known_hosts');
  await writeFile(knownHostsFile, knownHostLines(sshd));
  await promisify(execFile)('ssh-keygen', ['-q', '-H', '-f', knownHostsFile]);
  t.regex(await readFile(knownHostsFile, 'utf8'), /^\|1\|/);
  const shell = await shellFor(t, [sshd], { knownHostsFile });
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
});

testWithSshd('a host known by another type of key than the preferred one is trusted', async (t) => {
  const sshd = await ownSshd(t, { hostKeyTypes: ['ed25519', 'ecdsa', 'rsa'] });
  for (const type of ['ed25519', 'ecdsa', 'rsa'] as const) {
    const shell = await shellFor(t, [sshd], { knownHosts: `${name(sshd)} ${sshd.hostKeys[type]}\n` });
    t.is((await shell.run(sshd.address, ['echo', type], notAborted())).stdout, `${type}\n`);
  }
});

testWithSshd('the known name is the one that the caller gave, not the address behind it', async (t) => {
  const sshd = await sharedSshd();
  const policy = { resolve: async () => [sshd.address] };
  const knownHosts = `[node1.example.com]:${sshd.port} ${sshd.hostKeys.ed25519}\n`;
  const shell = await shellFor(t, [sshd], { policy, knownHosts });
  t.is((await shell.run('Node1.example.com', ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  const error = await errorOf(shell.run('node2.example.com', ['true'], notAborted()));
  t.like(error.details, { reason: 'unknown', host: 'node2.example.com' });
});

testWithSshd('accept-new records the key of a new host, and from then on refuses another key', async (t) => {
  const knownHostsFile = join(await testFolder(t), 'new', 'known_hosts');
  const sshd = await ownSshd(t);
  const log = keepingLog();
  const options = { knownHostsFile, hostKeys: 'accept-new' as const, log };
  const shell = await shellFor(t, [sshd], options);
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  t.is(await readFile(knownHostsFile, 'utf8'), knownHostLines(sshd));
  t.is((await stat(knownHostsFile)).mode & 0o777, 0o600);
  t.is((await stat(dirname(knownHostsFile))).mode & 0o777, 0o700);
  const added = log.lines.find(({ message }) => message === 'host added to known_hosts');
  t.like(added, { level: 'info', fields: { host: sshd.address, keyType: 'ssh-ed25519' } });

  await sshd.stop();
  const impostor = await ownSshd(t, { port: sshd.port });
  const error = await errorOf(
    (await shellFor(t, [impostor], options)).run(sshd.address, ['true'], notAborted()),
  );
  t.is(error.code, 'host_key_refused');
  t.like(error.details, { reason: 'changed' });
  t.is(await readFile(knownHostsFile, 'utf8'), knownHostLines(sshd));
});

testWithSshd('accept-new refuses another key under every spelling of the address', async (t) => {
  const sshd = await ownSshd(t);
  const strange = await strangeKey(await testFolder(t));
  for (const known of [sshd.address, '::FFFF:7f00:1']) {
    for (const host of [sshd.address, '::ffff:127.0.0.1', '0:0:0:0:0:ffff:7f00:1']) {
      const knownHosts = `[${known}]:${sshd.port} ${strange}\n`;
      const shell = await shellFor(t, [sshd], { knownHosts, hostKeys: 'accept-new' });
      const error = await errorOf(shell.run(host, ['true'], notAborted()));
      t.like(error.details, { host, reason: 'changed' });
    }
  }
});

testWithSshd('accept-new keeps the contents of the file, including a last line without an end', async (t) => {
  const sshd = await sharedSshd();
  const knownHostsFile = join(await testFolder(t), 'known_hosts');
  const before = `node1 ${sshd.hostKeys.ed25519}`;
  await writeFile(knownHostsFile, before);
  const shell = await shellFor(t, [sshd], { knownHostsFile, hostKeys: 'accept-new' });
  await shell.run('::ffff:127.0.0.1', ['true'], notAborted());
  await shell.run(sshd.address, ['true'], notAborted());
  t.is(await readFile(knownHostsFile, 'utf8'), `${before}\n${knownHostLines(sshd)}`);
});

testWithSshd('accept-new refuses a new host that it cannot record', async (t) => {
  const sshd = await sharedSshd();
  const folder = await testFolder(t);
  const knownHostsFile = join(folder, 'link');
  // A dangling link, because permissions alone would not stop root.
  await symlink(join(folder, 'nowhere', 'known_hosts'), knownHostsFile);
  const shell = await shellFor(t, [sshd], { knownHostsFile, hostKeys: 'accept-new' });
  const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
  t.is(error.code, 'host_key_refused');
  t.like(error.details, { reason: 'known_hosts_unusable' });
  t.like(error.cause, { code: 'ENOENT' });
  await mkdir(join(folder, 'nowhere'));
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
});

testWithSshd('a host is refused while its known_hosts file cannot be read', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd], { knownHostsFile: await testFolder(t) });
  const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
  t.is(error.code, 'host_key_refused');
  t.deepEqual(error.details, { host: sshd.address, reason: 'known_hosts_unusable' });
  t.like(error.cause, { code: 'EISDIR' });
});

testWithSshd('off accepts any key', async (t) => {
  const sshd = await sharedSshd();
  const knownHosts = `${name(sshd)} ${await strangeKey(await testFolder(t))}\n`;
  const shell = await shellFor(t, [sshd], { knownHosts, hostKeys: 'off' });
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
});

testWithSshd('a change of the file applies from the next connection on', async (t) => {
  const sshd = await sharedSshd();
  const knownHostsFile = join(await testFolder(t), 'known_hosts');
  const shell = await shellFor(t, [sshd], { knownHostsFile });
  t.like((await errorOf(shell.run(sshd.address, ['true'], notAborted()))).details, { reason: 'unknown' });
  await writeFile(knownHostsFile, knownHostLines(sshd));
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
});

testWithSshd('unusable lines are logged as a warning once, and usable ones are not', async (t) => {
  const sshd = await sharedSshd();
  const log = keepingLog();
  const knownHosts = `nonsense\n${knownHostLines(sshd)}`;
  const shell = await shellFor(t, [sshd], { knownHosts, log, maxAgeMs: 0 });
  await shell.run(sshd.address, ['true'], notAborted());
  await shell.run(sshd.address, ['true'], notAborted());
  const warnings = log.lines.filter(({ level }) => level === 'warn');
  t.is(warnings.length, 1);
  t.like(warnings[0]?.fields, { lines: [1] });
  const silent = keepingLog();
  await (await shellFor(t, [sshd], { log: silent })).run(sshd.address, ['true'], notAborted());
  t.false(silent.lines.some(({ level }) => level === 'warn'));
});

test('off is logged as a warning at the start', (t) => {
  const log = keepingLog();
  const options = {
    user: 'core',
    port: 22,
    knownHostsFile: '/nowhere',
    sudo: false,
    connectTimeoutMs: 1,
    handshakeTimeoutMs: 1,
    policy: anyAddress,
    log,
  };
  void new SshShell({ ...options, hostKeys: 'strict' });
  t.is(log.lines.length, 0);
  void new SshShell({ ...options, hostKeys: 'off' });
  t.like(log.lines[0], { level: 'warn' });
});

/** A new host key in wire form, as a host shows it. */
function newKey(): Buffer {
  const { public: line } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  return Buffer.from(line.split(' ')[1] ?? '', 'base64');
}

test('a new host that several connections reach at the same time is recorded once', async (t) => {
  const file = join(await testFolder(t), 'known_hosts');
  const keys = new HostKeys({ mode: 'accept-new', file, log: keepingLog() });
  const key = newKey();
  // Every spelling of an address is the same host.
  const checks = await Promise.all(
    ['127.0.0.1', '127.0.0.1', '::ffff:127.0.0.1'].map(async (host) => keys.check(host, 22)),
  );
  for (const each of checks) t.is(each.problemWith(key), undefined);
  await Promise.all(checks.map(async (each) => each.remember(key)));
  t.is(await readFile(file, 'utf8'), `127.0.0.1 ecdsa-sha2-nistp256 ${key.toString('base64')}\n`);
  const again = await keys.check('127.0.0.1', 22);
  await again.remember(key);
  t.is((await readFile(file, 'utf8')).split('\n').length, 2);
});

test('of two keys that a new host shows at the same time, the first is recorded and the other refused', async (t) => {
  const file = join(await testFolder(t), 'known_hosts');
  const keys = new HostKeys({ mode: 'accept-new', file, log: keepingLog() });
  const [first, second] = [newKey(), newKey()];
  const checks = await Promise.all([1, 2].map(async () => keys.check('node1', 22)));
  const taken = checks[0]?.remember(first);
  const error = await errorOf(checks[1]?.remember(second) ?? Promise.resolve());
  await taken;
  t.is(error.code, 'host_key_refused');
  t.like(error.details, { reason: 'changed', keyType: 'ecdsa-sha2-nistp256' });
  t.is(await readFile(file, 'utf8'), `node1 ecdsa-sha2-nistp256 ${first.toString('base64')}\n`);
  t.is((await keys.check('node1', 22)).problemWith(second), 'changed');
  t.is((await keys.check('node2', 22)).problemWith(second), undefined);
});

/** A host key of this type in wire form, with a type name and no numbers: no host proves to have it. */
function keyOfType(type: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(type.length);
  return Buffer.concat([length, Buffer.from(type), Buffer.alloc(36, 7)]).toString('base64');
}

test('a host is asked for the types of its known keys only, another one for every type; none with SHA-1', async (t) => {
  const algorithmsOf = async (lines: readonly string[], mode: 'strict' | 'off' = 'strict') => {
    const file = join(await testFolder(t), 'known_hosts');
    await writeFile(file, lines.join('\n'));
    return (await new HostKeys({ mode, file, log: keepingLog() }).check('node1', 2222)).algorithms;
  };
  const rsa = ['rsa-sha2-512', 'rsa-sha2-256'];
  const others = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'];
  const line = (host: string, type: string) => `${host} ${type} ${keyOfType(type)}`;
  for (const type of others) t.deepEqual(await algorithmsOf([line('[node1]:2222', type)]), [type]);
  t.deepEqual(await algorithmsOf([line('[node1]:2222', 'ssh-rsa')]), rsa);
  const two = ['ecdsa-sha2-nistp384', 'ssh-ed25519'].map((type) => line('[node1]:2222', type));
  t.deepEqual(await algorithmsOf(two), ['ssh-ed25519', 'ecdsa-sha2-nistp384']);
  t.deepEqual(await algorithmsOf([]), [...others, ...rsa]);
  t.deepEqual(await algorithmsOf(two, 'off'), [...others, ...rsa]);
  // The keys of its name without the port come first, as they may be accepted. A revoked one may not.
  const withoutPort = [line('node1', 'ssh-rsa'), `@revoked ${line('node1', 'ecdsa-sha2-nistp521')}`];
  t.deepEqual(await algorithmsOf(withoutPort), [...rsa, ...others]);
});

test('a new host gets a line of its own, whatever the file ends with, and the file is closed', async (t) => {
  const key = newKey();
  for (const before of ['', '#', '\n', '# a comment', '# a comment\n']) {
    const file = join(await testFolder(t), 'known_hosts');
    await writeFile(file, before);
    const check = await new HostKeys({ mode: 'accept-new', file, log: keepingLog() }).check('node1', 22);
    await check.remember(key);
    const separator = before === '' || before.endsWith('\n') ? '' : '\n';
    const line = `node1 ecdsa-sha2-nistp256 ${key.toString('base64')}\n`;
    t.is(await readFile(file, 'utf8'), `${before}${separator}${line}`);
    const open = (await readdir('/proc/self/fd')).map(async (fd) =>
      readlink(join('/proc/self/fd', fd)).catch(() => undefined),
    );
    t.false((await Promise.all(open)).includes(file));
  }
});
