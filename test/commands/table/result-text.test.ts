import test from 'ava';
import fc from 'fast-check';
import { array, number, object, string } from 'yup';
import { UsageError } from '../../../src/commands/usage-error.js';
import { checkColumns, columnTitles, resultText } from '../../../src/commands/table/result-text.js';
import { yamlText } from '../../../src/commands/yaml-text.js';
import { printableLines } from '../../../src/lib/printable.js';
import { jsonSchemaOf } from '../../../src/core/json-schema.js';
import { mapOf, stringMap } from '../../../src/plugin.js';
import { parse } from 'yaml';
import { UNSAFE } from '../../support/unsafe-characters.js';

const about = { description: 'A field.' };
const style = { width: 80, colours: false, headers: true, columns: undefined };

const UNITS = jsonSchemaOf(
  array(
    object({
      name: string()
        .required()
        .meta({ ...about, column: 'UNIT' }),
      options: array(object({ value: string().meta(about) })).meta(about),
      load: object({ percent: number().meta({ ...about, column: 'LOAD%' }) }).meta(about),
      subState: string()
        .nullable()
        .meta({ ...about, column: 'SUB' }),
    }),
  ),
);
const ROWS = [
  { name: 'a.service', options: [{ value: 'x' }], load: { percent: 5 }, subState: 'running' },
  { name: 'b.service', options: [], load: { percent: 50 }, subState: 'failed' },
  { name: 'c.service', options: [], load: {}, subState: null },
];

test('a list has the columns that its fields declare, also in objects within, and what has failed first', (t) => {
  t.is(
    resultText(ROWS, UNITS, style),
    `UNIT       LOAD%  SUB
b.service     50  failed
a.service      5  running
c.service      -  -
`,
  );
  t.deepEqual(columnTitles(UNITS), ['UNIT', 'LOAD%', 'SUB']);
  t.is(resultText([], UNITS, style), '');
});

test('other columns are named by title or by field, and unknown ones are refused before anything is sent', (t) => {
  const shown = resultText(ROWS.slice(0, 1), UNITS, {
    ...style,
    headers: false,
    columns: ['sub', 'options', 'load.percent'],
  });
  t.is(shown, 'running  [{"value":"x"}]  5\n');
  t.notThrows(() => checkColumns(['sub', 'options', 'load.percent', 'load'], UNITS));
  t.throws(() => checkColumns(['nmae'], UNITS), {
    instanceOf: UsageError,
    message:
      "--columns: there is no column 'nmae'; there are UNIT, LOAD%, SUB, name, options, load, subState",
  });
  t.throws(() => checkColumns(['a'], jsonSchemaOf(string())), { message: /has no columns/ });
});

test('a list that declares nothing has a column for each field, in words of its names', (t) => {
  const rows = [
    { primaryIP: '10.0.0.1', tags: ['a', 'b'], size_mb: 5, metadata: { role: 'web', disk: 'ssd' }, ok: true },
    { primaryIP: '10.0.0.2', tags: [], size_mb: 12345, metadata: {}, more: null },
  ];
  t.is(
    resultText(rows, undefined, { ...style, width: undefined }),
    `PRIMARY_IP  TAGS  SIZE_MB  METADATA           OK    MORE
10.0.0.1    a,b   5        disk=ssd,role=web  true  -
10.0.0.2    -     12345    -                  -     -
`,
  );
});

test('a map of objects is a table of its keys', (t) => {
  const schema = jsonSchemaOf(mapOf(object({ kernel: string().required().meta(about) })));
  const value = { '10.0.0.1': { kernel: '4.6' }, '10.0.0.2': { kernel: '4.7' } };
  t.is(resultText(value, schema, style), 'NAME      KERNEL\n10.0.0.1  4.6\n10.0.0.2  4.7\n');
  t.is(resultText(value, undefined, style), 'NAME      KERNEL\n10.0.0.1  4.6\n10.0.0.2  4.7\n');
  const named = jsonSchemaOf(mapOf(object({ kernel: string().meta(about) })).meta({ column: 'NODE' }));
  t.is(resultText({ a: { kernel: '1' } }, named, style), 'NODE  KERNEL\na     1\n');
});

test('an object has a line for each field, and a section for each list of objects', (t) => {
  const value = {
    unitName: 'a.service',
    disk: { size: { mb: 5 } },
    labels: { region: 'eu' },
    text: 'one\ntwo',
    long: 'word '.repeat(20),
    findings: [{ message: 'it is full' }],
  };
  t.is(
    resultText(value, undefined, { ...style, width: 50 }),
    `UNIT_NAME  a.service
DISK.SIZE  mb=5
LABELS     region=eu
TEXT       one
           two
LONG       word word word word word word word word
           word word word word word word word word
           word word word word

FINDINGS
MESSAGE
it is full
`,
  );
  t.is(resultText({ region: 'eu', role: null }, jsonSchemaOf(stringMap()), style), 'REGION  eu\nROLE    -\n');
});

test('records, and rows with more columns than the terminal has room for, are shown one below the other', (t) => {
  const schema = jsonSchemaOf(
    array(object({ severity: string().meta(about), text: string().meta(about) })).meta({
      display: 'records',
    }),
  );
  const rows = [
    { severity: 'warning', text: 'b' },
    { severity: 'error', text: 'a' },
  ];
  t.is(resultText(rows, schema, style), 'SEVERITY  error\nTEXT      a\n\nSEVERITY  warning\nTEXT      b\n');
  const wide = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`field_${index}`, index]));
  t.regex(resultText([wide], undefined, style), /^FIELD_0   0\nFIELD_1   1\n/);
});

test('texts, lists of texts and numbers are shown as they are', (t) => {
  t.is(resultText('lines\nof a log', undefined, style), 'lines\nof a log\n');
  t.is(resultText(['a', 'b'], undefined, style), 'a\nb\n');
  t.is(resultText(2n ** 64n, undefined, style), '18446744073709551616\n');
  t.is(resultText(null, undefined, style), 'null\n');
});

test('only a text that names a column is accepted as one, and only a known display', (t) => {
  for (const column of ['lower', '', 'A B', 7])
    t.throws(() => jsonSchemaOf(object({ a: string().meta({ ...about, column }) })), {
      message: /'a' has an invalid meta\(\{ column \}\)/,
    });
  t.throws(() => jsonSchemaOf(array(object({})).meta({ display: 'chart' })), {
    message: /invalid meta\(\{ display \}\)/,
  });
});

test('whatever a service sends, a result is shown and controls no terminal', (t) => {
  const hostile = fc.string({ unit: fc.constantFrom(...UNSAFE, 'a', ' ', '日') });
  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      hostile,
      fc.constantFrom(null, 1, 2n ** 70n, true),
      fc.array(tie('value')),
      fc.dictionary(hostile, tie('value')),
    ),
  })).value;
  t.notThrows(() =>
    fc.assert(
      fc.property(
        value,
        fc.constantFrom(undefined, UNITS),
        fc.constantFrom(undefined, 40, 80),
        (sent, schema, width) => {
          const text = resultText(sent, schema, { ...style, width, colours: false });
          return printableLines(text) === text;
        },
      ),
    ),
  );
});

test('YAML keeps every value, and nothing in it can control a terminal', (t) => {
  t.is(
    yamlText({ name: 'a.service', list: [1, 2n ** 64n], text: 'one\ntwo\n' }),
    'name: a.service\nlist:\n  - 1\n  - 18446744073709551616\ntext: |\n  one\n  two\n',
  );
  const hostile = fc.string({ unit: fc.constantFrom(...UNSAFE, 'a', ' ', ':', '-') });
  fc.assert(
    fc.property(
      fc.oneof(
        hostile,
        fc.array(hostile),
        fc.dictionary(
          hostile.filter((key) => key !== '__proto__'),
          hostile,
        ),
      ),
      (value) => {
        const text = yamlText(value);
        t.deepEqual(parse(text), value);
        return printableLines(text) === text;
      },
    ),
  );
});

test('YAML has the same meaning for readers of YAML 1.1, and nothing that no reader accepts', (t) => {
  for (const text of ['no', 'on', 'Yes', '1:30', '2026-01-31', '1_000', '<<', '0o7', '~'])
    t.regex(yamlText([text]), /^- ["']/, text);
  t.is(yamlText({ '<<': 1, no: 2 }), '"<<": 1\n"no": 2\n');
  t.is(yamlText('a\uffff'), '"a\\uffff"\n');
});
