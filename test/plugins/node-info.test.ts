import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import nodeInfo from '../../plugins/node-info/index.js';
import { readDisk, readDocker, readMachine, readOs } from '../../plugins/node-info/facts.js';
import { ActionError, Clock, FleetTransport, RemoteShell } from '../../src/plugin.js';
import { prepareAction } from '../../src/runtime/catalogue.js';
import { systemClock } from '../../src/system-clock.js';
import { logLines } from '../support/log-lines.js';
import { testWithSshd } from '../support/sshd.js';
import { ownSshd, shellFor, testFolder } from '../ssh/shell-for.js';

type Info = Record<
  string,
  { docker_disk_space_percent: number | null; coreos_version: string | null; errors: string[] }
>;

async function infoOf(
  shell: RemoteShell,
  parameters: unknown,
  signal = new AbortController().signal,
): Promise<Info> {
  const parts = new Map<symbol, unknown>([
    [RemoteShell, shell],
    [Clock, systemClock],
    [FleetTransport, {}],
  ]);
  const action = prepareAction(nodeInfo, (token) => parts.get(token));
  const { log } = logLines();
  const request = { parameters: action.check(parameters), cluster: undefined, signal, log, id: 'r1' };
  return (await action.run(request)) as Info;
}

testWithSshd('one node of 50 that hangs does not hold up the other 49 beyond its own time', async (t) => {
  const addresses = Array.from({ length: 49 }, (_, n) => `127.0.2.${n + 1}`);
  const silent = createServer((socket) => socket.on('error', () => {}));
  // All of 127.0.2.0/24 is one machine; what hangs is on the same port of another address.
  const sshd = await ownSshd(t, { address: '0.0.0.0' });
  await new Promise<void>((resolve) => silent.listen(sshd.port, '::1', resolve));
  t.teardown(() => silent.close());
  const knownHosts = [...addresses, '::1'].map(
    (address) => `[${address}]:${sshd.port} ${sshd.hostKeys.ed25519}\n`,
  );
  const file = join(await testFolder(t), 'known_hosts');
  await writeFile(file, knownHosts.join(''));
  const shell = await shellFor(t, [sshd], { knownHostsFile: file, handshakeTimeoutMs: 6_000, maxHosts: 60 });
  const info = await infoOf(shell, { nodes: ['::1', ...addresses] });
  t.deepEqual(Object.keys(info), ['::1', ...addresses]);
  t.is(info['::1']?.docker_disk_space_percent, null);
  t.regex(String(info['::1']?.errors), /^host_unreachable: /);
  for (const address of addresses)
    t.regex(String(info[address]?.coreos_version), /^ID=/m, String(info[address]?.errors));
});

test('a node without an answer has every key, and the reason once', async (t) => {
  const shell: RemoteShell = {
    run: async (host) => {
      throw new ActionError('login_refused', `${host} did not let core in`);
    },
  };
  t.deepEqual(await infoOf(shell, { nodes: ['10.0.0.1'] }), {
    '10.0.0.1': {
      docker_disk_space_percent: null,
      coreos_version: null,
      docker_version: null,
      errors: ['login_refused: 10.0.0.1 did not let core in'],
      disk: null,
      os: null,
      docker: null,
      load: null,
      memory: null,
      uptime_seconds: null,
    } as never,
  });
});

test('no more than so many nodes are read at once, and all are read', async (t) => {
  let running = 0;
  let most = 0;
  const shell: RemoteShell = {
    run: async () => {
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
      return { stdout: '', stderr: '', truncated: false };
    },
  };
  const nodes = Array.from({ length: 256 }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
  t.is(Object.keys(await infoOf(shell, { nodes })).length, 256);
  t.true(most <= 64 * 4);
});

test('a defect in the shell is not taken for a node that is away', async (t) => {
  const shell: RemoteShell = { run: () => Promise.reject(new TypeError('defect')) };
  await t.throwsAsync(infoOf(shell, { nodes: ['10.0.0.1'] }), { instanceOf: TypeError });
});

test('a cancelled request stops', async (t) => {
  const abort = new AbortController();
  const shell: RemoteShell = {
    run: (_host, _argv, { signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  };
  const info = infoOf(shell, { nodes: ['10.0.0.1'] }, abort.signal);
  setImmediate(() => abort.abort(new ActionError('cancelled', 'gone')));
  await t.throwsAsync(info, { instanceOf: ActionError, message: 'gone' });
});

test('nodes beyond the bounds are refused', async (t) => {
  const shell: RemoteShell = { run: () => Promise.reject(new TypeError('not to be called')) };
  for (const nodes of [
    [],
    Array(257).fill('10.0.0.1'),
    ['x y'],
    [''],
    [null],
    ['10.0.0.1', 5],
    'x',
    ['0177.0.0.1'],
  ]) {
    await t.throwsAsync(
      async () => infoOf(shell, { nodes }),
      { instanceOf: ActionError },
      JSON.stringify(nodes).slice(0, 50),
    );
  }
});

test('df, os-release, docker version and /proc are read in the forms they have', (t) => {
  const df =
    'Filesystem     1048576-blocks  Used Available Capacity Mounted on\n/dev/sda9              12345  6789      4321      62% /\n';
  t.deepEqual(readDisk(df), { size_mb: 12_345, used_mb: 6_789, available_mb: 4_321, used_percent: 62 });
  const os =
    'NAME=CoreOS\nID=coreos\nVERSION=1068.8.0\nVERSION_ID=1068.8.0\nPRETTY_NAME="CoreOS 1068.8.0 (MoreOS)"\n';
  t.deepEqual(readOs(os), {
    text: os,
    facts: { id: 'coreos', version: '1068.8.0', name: 'CoreOS 1068.8.0 (MoreOS)' },
  });
  t.like(readDocker('Client version: 1.6.2\nServer version: 1.6.1\n'), {
    facts: { client_version: '1.6.2', server_version: '1.6.1' },
  });
  t.like(readDocker('Client:\n Version:      1.10.3\n\nServer:\n Version:      1.10.4\n'), {
    facts: { client_version: '1.10.3', server_version: '1.10.4' },
  });
  const proc =
    '0.12 0.34 1.56 1/234 5678\nMemTotal:        1024 kB\nMemFree: 5 kB\nMemAvailable:    512 kB\n12345.67 23456.78\n';
  t.deepEqual(readMachine(proc), {
    load: [0.12, 0.34, 1.56],
    memory: { total_kb: 1024, available_kb: 512 },
    uptime_seconds: 12_345,
  });
});

test('whatever a machine prints, it is read or told as unreadable', (t) => {
  for (const read of [readDisk, readOs, readDocker, readMachine]) {
    t.notThrows(() =>
      fc.assert(
        fc.property(fc.string(), (text) => {
          try {
            read(text);
          } catch (error) {
            if (!(error instanceof ActionError)) throw error;
          }
        }),
      ),
    );
  }
});
