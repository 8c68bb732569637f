import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { TestFn } from 'ava';
import { Semaphore } from '../../src/lib/semaphore.js';
import type { Machine } from '../../src/plugin.js';
import { eventually } from './eventually.js';
import { noteImpossible } from './note-skipped.js';
import { inRepository } from './repository.js';

const SCRIPT = inRepository('scripts/machines');
const NOT_INSTALLED = 69;

/** What happens to a machine: see `scripts/machines`. */
type Event = 'kill' | 'poweroff' | 'boot' | 'freeze' | 'thaw' | 'cut' | 'join';

/** A machine with systemd, journald and sshd. `core` and `root` log in. */
export interface SystemdMachine {
  /** As fleet lists it. */
  machine: Machine;
  address: string;
  /** The address of this process for the machine. */
  gateway: string;
  /** Makes this happen to it; after `boot` it accepts connections. */
  control(event: Event): Promise<void>;
  /**
   * Runs a script of bash as root.
   * @returns its standard output
   */
  run(script: string): Promise<string>;
  /** Installs a shell script as a command, before the system's command of this name in the search path. */
  installCommand(name: string, script: string): Promise<void>;
  /** Runs a service of this name that writes this text to the journal; each line gets the identifier `unit`. */
  logAs(unit: string, text: string | Uint8Array): Promise<void>;
  /** Reboots it; it accepts connections afterwards. */
  reboot(): Promise<void>;
}

export interface SystemdMachines {
  machines: readonly SystemdMachine[];
  /** The settings with which the service logs in to them as `core`. */
  env: { SSH_USER: string; SSH_PORT: string; SSH_KEY_FILE: string; SSH_KNOWN_HOSTS: string };
  stop: () => Promise<void>;
}

/**
 * Whether systemd machines can run here. If not, the tests are reported as skipped; with REQUIRE_SERVICES=1 it is an error
 * when only an installation is missing.
 * @param tests what cannot be tested without machines
 */
export async function machinesCanRun(tests: string): Promise<boolean> {
  const check = spawn(SCRIPT, ['check'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  check.stdout.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
  const [code] = await once(check, 'close');
  if (code === 0) return true;
  if (process.env.REQUIRE_SERVICES === '1' && code === NOT_INSTALLED) {
    throw new Error(`${tests} cannot be tested: ${said.trim()}; scripts/install-services installs it`);
  }
  noteImpossible(tests, said.trim());
  return false;
}

/**
 * Boots machines; they end at the latest with this process.
 * @param shared files and folders that they have, read-only, and where
 */
export async function bootMachines(
  count: number,
  shared: Readonly<Record<string, string>> = {},
): Promise<SystemdMachines> {
  const folder = await mkdtemp(join(tmpdir(), 'machines-'));
  const binds = Object.entries(shared).map(([source, target]) => `${source}:${target}`);
  const script = spawn(SCRIPT, ['run', folder, String(count), ...binds], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(script, 'close');
  const stop = async () => {
    script.stdin.end();
    await ended;
    await rm(folder, { recursive: true });
  };
  const answers = createInterface(script.stdout)[Symbol.asyncIterator]();
  const nextAnswer = async () => {
    const { value, done } = await answers.next();
    if (done === true) throw new Error('scripts/machines has ended');
    return value;
  };
  try {
    const { machines, key, knownHosts }: Booted = JSON.parse(await nextAnswer());
    const control = controlLines(script, nextAnswer);
    return {
      machines: machines.map((each) => newMachine(each, { key, knownHosts, control })),
      env: { SSH_USER: 'core', SSH_PORT: '22', SSH_KEY_FILE: key, SSH_KNOWN_HOSTS: knownHosts },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Machines for the tests of a file, each of which takes its own: they are booted before the tests, and end after them. */
export function machinePool(
  test: Pick<TestFn, 'before' | 'after'>,
  count: number,
): { booted: () => SystemdMachines; takeMachine: () => SystemdMachine } {
  let pool: SystemdMachines | undefined;
  let unused: Iterator<SystemdMachine> | undefined;
  test.before(async () => {
    pool = await bootMachines(count);
    unused = pool.machines.values();
  });
  test.after.always(async () => pool?.stop());
  return {
    booted: () => {
      if (pool === undefined) throw new Error('the machines are not booted yet');
      return pool;
    },
    takeMachine: () => {
      const machine = unused?.next().value;
      if (machine === undefined) throw new Error('boot more machines');
      return machine;
    },
  };
}

/** What `scripts/machines run` prints first. */
interface Booted {
  machines: { name: string; address: string; gateway: string; id: string }[];
  key: string;
  knownHosts: string;
}

type Control = (line: string) => Promise<void>;

/** Sends one control line at a time, because the answers come in the order of the lines. */
function controlLines(script: ChildProcess, nextAnswer: () => Promise<string>): Control {
  const turn = new Semaphore(1);
  return async (line) => {
    const release = await turn.acquire(new AbortController().signal);
    try {
      script.stdin?.write(`${line}\n`);
      const answer = await nextAnswer();
      if (answer !== `done ${line}`) throw new Error(`scripts/machines: ${answer}`);
    } finally {
      release();
    }
  };
}

function newMachine(
  { name, address, gateway, id }: Booted['machines'][number],
  { key, knownHosts, control }: Pick<Booted, 'key' | 'knownHosts'> & { control: Control },
): SystemdMachine {
  const options = [
    '-n',
    '-F',
    'none',
    '-i',
    key,
    '-o',
    `UserKnownHostsFile=${knownHosts}`,
    '-o',
    'BatchMode=yes',
  ];
  const run = async (script: string) => {
    const { stdout } = await promisify(execFile)('ssh', [
      ...options,
      `root@${address}`,
      `set -eu\n${script}`,
    ]);
    return stdout;
  };
  const bootId = async () => run('cat /proc/sys/kernel/random/boot_id');
  return {
    machine: { id, primaryIP: address, metadata: {} },
    address,
    gateway,
    run,
    control: async (event) => control(`${event} ${name}`),
    installCommand: async (command, text) => {
      const file = `/usr/local/bin/${command}`;
      await run(`cat >${file} <<'END OF COMMAND'\n#!/bin/sh\n${text}\nEND OF COMMAND\nchmod 755 ${file}`);
    },
    logAs: async (unit, text) => {
      const lines = Buffer.from(text).toString('base64');
      await run(
        `printf %s '${lines}' | base64 -d >/root/lines\n` +
          `systemd-run --quiet --wait --unit=${unit} --property=SyslogIdentifier=unit cat /root/lines\n` +
          'journalctl --sync',
      );
    },
    reboot: async () => {
      const before = await bootId();
      // The connection may be lost before the command has ended.
      await run('systemctl reboot').catch(() => undefined);
      await eventually(`${name} has rebooted`, async () => (await bootId().catch(() => before)) !== before);
    },
  };
}
