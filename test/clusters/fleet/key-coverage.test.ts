import test from 'ava';
import { KeyCoverage, type KeyRange } from '../../../src/clusters/fleet/key-coverage.js';

const END = undefined;
const WHOLE = { after: '', before: END };

for (const [what, ranges, gaps] of [
  ['nothing', [], [WHOLE]],
  ['the whole list', [['', END]], []],
  [
    'ranges with a common key',
    [
      ['', 'd'],
      ['d', END],
    ],
    [],
  ],
  [
    'ranges in any order',
    [
      ['f', END],
      ['', 'c'],
      ['b', 'g'],
    ],
    [],
  ],
  [
    'ranges without a common key',
    [
      ['', 'c'],
      ['d', END],
    ],
    [{ after: 'c', before: 'd' }],
  ],
  ['only the beginning', [['', 'c']], [{ after: 'c', before: END }]],
  ['only the end', [['c', END]], [{ after: '', before: 'c' }]],
  [
    'several gaps',
    [
      ['', 'b'],
      ['k', 'm'],
      ['d', 'f'],
      ['e', 'g'],
      ['t', END],
    ],
    [
      { after: 'b', before: 'd' },
      { after: 'g', before: 'k' },
      { after: 'm', before: 't' },
    ],
  ],
  [
    'a range within another',
    [
      ['', 'm'],
      ['c', 'd'],
      ['m', END],
    ],
    [],
  ],
  [
    'ranges of one key at the ends of another',
    [
      ['', 'b'],
      ['d', 'd'],
      ['d', 'f'],
      ['f', 'f'],
      ['d', 'd'],
      ['h', END],
    ],
    [
      { after: 'b', before: 'd' },
      { after: 'f', before: 'h' },
    ],
  ],
  [
    'a range that joins all others',
    [
      ['', 'b'],
      ['d', 'f'],
      ['h', END],
      ['a', 'i'],
    ],
    [],
  ],
] satisfies [string, [string, string | undefined][], object[]][]) {
  test(`the gaps of ${what}`, (t) => {
    const coverage = new KeyCoverage();
    for (const [from, to] of ranges) coverage.add({ from, to } satisfies KeyRange);
    t.deepEqual(coverage.gaps(), gaps);
  });
}
