import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { AuditFile } from '../../../src/access/audit/audit-file.js';
import { folder } from '../../support/settings.js';

const line = (text: string) => ({ id: text, text });
const MODULE = new URL('../../../src/access/audit/audit-file.js', import.meta.url).href;
const linesIn = async (path: string) =>
  (await readFile(path, 'utf8')).split('\n').filter((each) => each !== '');

for (const sync of [false, true])
  test(`lines are appended to what the file has, ${sync ? 'and reach the disk' : 'without waiting for the disk'}`, async (t) => {
    const path = join(await folder(t), 'audit.jsonl');
    await writeFile(path, 'before\n');
    const file = await AuditFile.open({ path, sync });
    t.deepEqual(await file.write([line('a'), line('b')]), { kept: 2 });
    t.deepEqual(await file.write([line('c')]), { kept: 1 });
    await file.close();
    t.is(await readFile(path, 'utf8'), 'before\na\nb\nc\n');
  });

test('a line that a process before has not finished spoils no other, after the start and after the file is opened again', async (t) => {
  const path = join(await folder(t), 'audit.jsonl');
  await writeFile(path, '{"cut');
  const file = await AuditFile.open({ path, sync: true });
  t.deepEqual(await file.write([line('a')]), { kept: 1 });
  await appendFile(path, '{"cut again');
  await file.reopen();
  t.deepEqual(await file.write([line('b')]), { kept: 1 });
  await file.close();
  t.is(await readFile(path, 'utf8'), '{"cut\na\n{"cut again\nb\n');
});

test('others may not read the file', async (t) => {
  const path = join(await folder(t), 'audit.jsonl');
  await (await AuditFile.open({ path, sync: false })).close();
  t.is((await stat(path)).mode & 0o137, 0);
});

test('what cannot be a file is refused', async (t) => {
  const directory = await folder(t);
  await t.throwsAsync(AuditFile.open({ path: directory, sync: false }), { message: /is not a file/ });
  await t.throwsAsync(AuditFile.open({ path: join(directory, 'missing', 'audit'), sync: false }), {
    code: 'ENOENT',
  });
  const pipe = join(directory, 'pipe');
  await promisify(execFile)('mkfifo', [pipe]);
  await t.throwsAsync(AuditFile.open({ path: pipe, sync: false }), { message: /is not a file/ });
});

test('a file that is renamed under load is opened again: no line is lost, and none is cut', async (t) => {
  const directory = await folder(t);
  const path = join(directory, 'audit.jsonl');
  const file = await AuditFile.open({ path, sync: false });
  const sent: string[] = [];
  for (let rotation = 0; rotation < 5; rotation++) {
    const writing = (async () => {
      for (let times = 0; times < 50; times++) {
        const lines = Array.from({ length: 10 }, (_, index) => `${rotation}.${times}.${index}`);
        sent.push(...lines);
        t.deepEqual(await file.write(lines.map(line)), { kept: 10 });
      }
    })();
    await rename(path, `${path}.${rotation}`);
    await file.reopen();
    await writing;
  }
  await file.close();
  const rotated = await Promise.all([0, 1, 2, 3, 4].map(async (each) => linesIn(`${path}.${each}`)));
  t.deepEqual([...rotated.flat(), ...(await linesIn(path))], sent);
});

test('when the file cannot be opened again, lines go on to the one before', async (t) => {
  const directory = await folder(t);
  const inner = join(directory, 'config');
  const path = join(inner, 'audit.jsonl');
  const file = await AuditFile.open({ path, sync: false });
  await rename(inner, join(directory, 'moved'));
  await t.throwsAsync(file.reopen(), { code: 'ENOENT' });
  t.deepEqual(await file.write([line('a')]), { kept: 1 });
  await file.close();
  t.deepEqual(await linesIn(join(directory, 'moved', 'audit.jsonl')), ['a']);
});

test('the lines of several processes that append to one file do not mix', async (t) => {
  const path = join(await folder(t), 'audit.jsonl');
  const script = `
    const { AuditFile } = await import(process.argv[1]);
    const file = await AuditFile.open({ path: process.argv[2], sync: false });
    for (let times = 0; times < 200; times++) {
      const text = JSON.stringify({ worker: process.argv[3], times, pad: process.argv[3].repeat(5_000) });
      await file.write([{ id: '', text }, { id: '', text }]);
    }
    await file.close();`;
  await Promise.all(
    ['a', 'b', 'c'].map(async (worker) =>
      promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, MODULE, path, worker]),
    ),
  );
  const lines = (await linesIn(path)).map((each) => JSON.parse(each));
  t.is(lines.length, 3 * 200 * 2);
  t.true(lines.every(({ worker, pad }) => pad === worker.repeat(5_000)));
});

// A limit for the size of files fails in the middle of a line, as a full disk does.
test('a disk that is full keeps whole lines, says why, and the next line that fits is whole', async (t) => {
  const path = join(await folder(t), 'audit.jsonl');
  const script = `
    const { AuditFile } = await import(process.argv[1]);
    const file = await AuditFile.open({ path: process.argv[2], sync: false });
    const lines = ['a', 'b', 'c'].map((each) => ({ id: each, text: each.repeat(400) }));
    const written = [await file.write(lines), await file.write(lines.slice(2))];
    process.stdout.write(JSON.stringify(written));
    process.stdin.once('data', async () => {
      process.stdout.write(JSON.stringify(await file.write(lines.slice(2))));
      process.exit();
    });`;
  const child = spawn(
    'prlimit',
    ['--fsize=1000:unlimited', process.execPath, '--input-type=module', '-e', script, MODULE, path],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const closed = once(child, 'close');
  const [first] = await once(child.stdout, 'data');
  const [part, none] = JSON.parse(String(first));
  t.is(part.kept, 2);
  t.regex(part.problem, /audit\.jsonl cannot be written: there was room for a part of the lines only/);
  t.is(none.kept, 0);
  t.regex(none.problem, /EFBIG/);
  await promisify(execFile)('prlimit', [`--pid=${child.pid}`, '--fsize=unlimited:unlimited']);
  child.stdin.write('\n');
  const [last] = await once(child.stdout, 'data');
  t.deepEqual(JSON.parse(String(last)), { kept: 1 });
  await closed;
  const lines = await linesIn(path);
  t.deepEqual(
    lines.filter((each) => each.length === 400),
    ['a', 'b', 'c'].map((each) => each.repeat(400)),
  );
  t.deepEqual(
    lines.filter((each) => each.length !== 400).map((each) => new Set(each)),
    [new Set('c')],
  );
});
