import test from 'ava';
import { applyPatch } from 'diff';
import fc from 'fast-check';
import { unitDiff } from '../../src/clusters/unit-diff.js';

const UNIT = 'systemd-fsck@dev-disk-by\\x2dlabel-data.service';

test('the difference of two texts has the lines around each change, and names the unit', (t) => {
  const before = ['[Unit]', 'Description=Web', '', '[Service]', 'ExecStart=/bin/web', 'Restart=always', ''];
  const after = before.map((line) => line.replace('/bin/web', '/bin/web --fast'));
  t.is(
    unitDiff('web.service', before.join('\n'), after.join('\n')),
    [
      '--- web.service',
      '+++ web.service',
      '@@ -2,5 +2,5 @@',
      ' Description=Web',
      ' ',
      ' [Service]',
      '-ExecStart=/bin/web',
      '+ExecStart=/bin/web --fast',
      ' Restart=always',
      '',
    ].join('\n'),
  );
});

test('the difference of the same text is null, and a new file is added as a whole', (t) => {
  t.is(unitDiff(UNIT, '[Service]\n', '[Service]\n'), null);
  t.is(
    unitDiff(UNIT, null, '[Service]\nExecStart=/bin/a'),
    `--- /dev/null\n+++ ${UNIT}\n@@ -0,0 +1,2 @@\n+[Service]\n+ExecStart=/bin/a\n\\ No newline at end of file\n`,
  );
});

test('where too many lines differ, all are removed and all are added', (t) => {
  const lines = (value: string) => `${value}\n`.repeat(300);
  const diff = unitDiff(UNIT, lines('A=1'), lines('A=2')) ?? '';
  t.is(diff.match(/^-A=1$/gm)?.length, 300);
  t.is(diff.match(/^\+A=2$/gm)?.length, 300);
});

test('a long difference is cut at the end of a line, and says how much is left', (t) => {
  const diff = unitDiff(UNIT, null, 'Environment=A=0123456789\n'.repeat(2_000)) ?? '';
  t.true(diff.length < 16_500, String(diff.length));
  const shown = diff.match(/^\+Env/gm)?.length ?? 0;
  t.regex(diff, new RegExp(`\\n\\\\ Cut: ${2_000 - shown} more lines\\n$`));
});

test('whatever differs, the difference makes the new text of the old one', (t) => {
  const line = fc.oneof(fc.constantFrom('[Service]', 'A=1', 'A=2', '', '# why', '+x', '-x', '\\ y', 'B=1\r'));
  const text = fc
    .tuple(fc.array(line, { maxLength: 40 }), fc.constantFrom('', '\n'))
    .map(([lines, end]) => `${lines.join('\n')}${end}`);
  fc.assert(
    fc.property(text, text, (before, after) => {
      const diff = unitDiff('a.service', before, after);
      t.is(diff === null ? before : applyPatch(before, diff, { autoConvertLineEndings: false }), after);
    }),
  );
});
