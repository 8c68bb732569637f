import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import { eventually } from './support/eventually.js';
import { machinesCanRun } from './support/systemd-machines.js';
import { inRepository } from './support/repository.js';

const SCRIPT = inRepository('scripts/machines');

// Asked before any test is declared.
const canRun = await machinesCanRun('scripts/machines');

async function run(...command: string[]): Promise<{ code: unknown; stdout: string }> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  const [code] = await once(child, 'close');
  return { code, stdout };
}

test('a wrong use of scripts/machines is answered with the exit code 64', async (t) => {
  for (const args of [
    [],
    ['run'],
    ['run', '/tmp/x', '0'],
    ['run', '/tmp/x', '61'],
    ['run', '/tmp/x', '1', '/etc'],
    ['check', 'more'],
  ])
    t.is((await run(SCRIPT, ...args)).code, 64, args.join(' '));
});

if (canRun) {
  /** Starts a machine. @returns also its address on this side of its network */
  const start = async (t: ExecutionContext) => {
    const folder = await mkdtemp(join(tmpdir(), 'machines-'));
    t.teardown(async () => rm(folder, { recursive: true }));
    const script = spawn(SCRIPT, ['run', folder, '1'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(script, 'exit');
    t.teardown(async () => {
      script.stdin.end();
      await ended;
    });
    const lines = createInterface(script.stdout)[Symbol.asyncIterator]();
    const next = async () => String((await lines.next()).value);
    const { machines }: { machines: { address: string }[] } = JSON.parse(await next());
    const network = String(machines[0]?.address).replace(/\.\d+$/, '.');
    const isUp = () =>
      Object.values(networkInterfaces()).some((list) =>
        list?.some(({ address }) => address.startsWith(network)),
      );
    return { script, ended, next, isUp };
  };

  test('scripts/machines says why machines cannot run: without root rights, or where the container allows none', async (t) => {
    const nobody = await run('setpriv', '--reuid', '65534', '--clear-groups', SCRIPT, 'check');
    t.deepEqual(nobody, { code: 77, stdout: 'systemd machines cannot run here: it needs root rights\n' });
    const restricted = await run(
      'setpriv',
      '--bounding-set',
      '-sys_admin',
      '--inh-caps',
      '-sys_admin',
      SCRIPT,
      'check',
    );
    t.is(restricted.code, 77);
    t.regex(restricted.stdout, /^systemd machines cannot run here: namespaces, .* are not allowed here\n$/);
  });

  for (const [how, stop] of [
    ['its standard input ends', (script) => script.stdin?.end()],
    ['it gets SIGTERM', (script) => script.kill('SIGTERM')],
    ['it is killed', (script) => script.kill('SIGKILL')],
  ] satisfies [string, (script: ReturnType<typeof spawn>) => unknown][]) {
    test(`no machine is left when ${how}`, async (t) => {
      const { script, ended, isUp } = await start(t);
      t.true(isUp());
      stop(script);
      const [code, signal] = await ended;
      t.is(code ?? signal, how === 'it is killed' ? 'SIGKILL' : 0);
      await eventually('its network is gone', () => !isUp());
    });
  }

  test('a control line that cannot be done is answered, and the next one is done', async (t) => {
    const { script, next } = await start(t);
    const lines: [string, string][] = [
      ['explode m1', 'failed explode m1'],
      ['kill m2', 'failed kill m2'],
      ['boot m1', 'failed boot m1'],
      ['kill m1', 'done kill m1'],
      ['kill m1', 'failed kill m1'],
      ['boot m1', 'done boot m1'],
    ];
    for (const [line, answer] of lines) {
      script.stdin.write(`${line}\n`);
      t.is(await next(), answer);
    }
  });
}
