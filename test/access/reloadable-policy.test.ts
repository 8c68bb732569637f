import { execFile } from 'node:child_process';
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { ReloadablePolicy } from '../../src/access/reloadable-policy.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

const allowing = (caller: string) => `rules:\n- callers: [${caller}]\n  effects: [read]\n`;
/** Longer than the time between two looks at the file. */
const LOOK_MS = 6_000;

/** A policy whose file a test changes. */
async function openPolicy(t: ExecutionContext, text: string) {
  const folder = await mkdtemp(join(tmpdir(), 'policy-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  const file = join(folder, 'policy.yaml');
  await writeFile(file, text);
  const clock = new ManualClock();
  const { log, lines } = logLines();
  const policy = new ReloadablePolicy({ file, clock, log });
  policy.start();
  t.teardown(() => policy.stop());
  const allows = (name: string) =>
    policy.decide({
      caller: { name, verifiedBy: 'broker' },
      action: { name: 'list_units', effect: 'read' },
      cluster: undefined,
      units: [],
      unitMarks: 'patterns',
    }).allowed;
  /** Lets the service look at the file so many times. */
  const look = (times = 1) => {
    for (let index = 0; index < times; index++) clock.advance(LOOK_MS);
  };
  return {
    policy,
    file,
    folder,
    clock,
    look,
    lines,
    allows,
    told: () => lines.map(({ message }) => message),
  };
}

test('a pipe in the place of the policy is refused, and nothing waits for who writes to it', async (t) => {
  const { policy, file, allows, lines } = await openPolicy(t, allowing('a'));
  await rm(file);
  await promisify(execFile)('mkfifo', [file]);
  await policy.reload();
  t.like(lines.at(-1), { message: 'policy refused', reason: 'it is not a file' });
  t.true(allows('a'));
});

test('a policy that changes is used when two looks have found the same text', async (t) => {
  const { file, look, allows, told } = await openPolicy(t, allowing('a'));
  t.deepEqual([allows('a'), allows('b')], [true, false]);
  look();
  t.deepEqual(told(), [], 'nothing has changed');
  await writeFile(file, allowing('b'));
  look();
  t.deepEqual([allows('a'), allows('b')], [true, false]);
  look();
  t.deepEqual([allows('a'), allows('b')], [false, true]);
  look(10);
  t.deepEqual(told(), ['policy reloaded'], 'once');
});

test('a policy that is half written is not used, though it can be read', async (t) => {
  const { file, look, allows, told } = await openPolicy(t, allowing('a'));
  await writeFile(file, allowing('b'));
  look();
  await writeFile(file, `${allowing('b')}  clusters: [prod]\n`);
  look();
  t.false(allows('b'));
  t.deepEqual(told(), []);
  look();
  t.false(allows('b'), 'the rule is for a cluster');
  t.false(allows('a'));
  t.deepEqual(told(), ['policy reloaded']);
});

test('a broken policy is refused with the reason, and the one before it stays; so is a file that is gone', async (t) => {
  const { file, look, allows, lines, told } = await openPolicy(t, allowing('a'));
  await writeFile(file, 'rules:\n- callers: [b]\n');
  look(2);
  t.true(allows('a'));
  t.like(lines.at(-1), {
    message: 'policy refused',
    level: 'warn',
    file,
    reason: 'line 2, column 3: rules[0] needs actions or effects',
  });
  look(10);
  t.is(lines.length, 1, 'it is told once');
  await rm(file);
  look(2);
  t.true(allows('a'));
  t.is(lines.length, 2);
  t.regex(String(lines.at(-1)?.reason), /ENOENT/);
  await writeFile(file, allowing('b'));
  look(2);
  t.deepEqual([allows('a'), allows('b')], [false, true]);
  t.deepEqual(told(), ['policy refused', 'policy refused', 'policy reloaded']);
});

test('a reload reads the file at once, and tells the outcome', async (t) => {
  const { policy, file, allows, told } = await openPolicy(t, allowing('a'));
  await policy.reload();
  t.deepEqual(told(), ['policy reloaded']);
  await writeFile(file, '{');
  await policy.reload();
  t.true(allows('a'));
  await writeFile(file, allowing('b'));
  await policy.reload();
  t.deepEqual([allows('a'), allows('b')], [false, true]);
  t.deepEqual(told(), ['policy reloaded', 'policy refused', 'policy reloaded']);
});

test('a file behind links that are exchanged, as in Kubernetes, is read again', async (t) => {
  const { folder, file, look, allows } = await openPolicy(t, allowing('a'));
  await writeFile(join(folder, 'v1.yaml'), allowing('b'));
  await symlink('v1.yaml', join(folder, 'next'));
  await rename(join(folder, 'next'), file);
  look(2);
  t.deepEqual([allows('a'), allows('b')], [false, true]);
  await writeFile(join(folder, 'v2.yaml'), allowing('c'));
  await symlink('v2.yaml', join(folder, 'next'));
  await rename(join(folder, 'next'), file);
  look(2);
  t.deepEqual([allows('b'), allows('c')], [false, true]);
});

test('after its stop a policy is not read again', async (t) => {
  const { policy, clock } = await openPolicy(t, allowing('a'));
  policy.stop();
  t.is(clock.pending, 0);
});
