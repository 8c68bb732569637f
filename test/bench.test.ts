import type { Profiler } from 'node:inspector';
import test from 'ava';
import { callTree, functionTimes, ownerOf } from '../bench/cpu-profile.js';
import { flameGraph } from '../bench/flame-graph.js';
import type { Measurement } from '../bench/row.js';
import { goalLines, resultsFile, table } from '../bench/report.js';

const SERVICE_FILE = new URL('../dist/src/core/runner.js', import.meta.url).href;

/** A program in which `run` calls itself and `write`; each sample is in the node of that number, for 100 us. */
function profileOf(samples: number[]): Profiler.Profile {
  const node = (id: number, functionName: string, url: string, children: number[] = []) => ({
    id,
    callFrame: { functionName, url, lineNumber: 9, columnNumber: 0, scriptId: '0' },
    children,
  });
  const nodes = [
    node(1, '(root)', '', [2, 3, 6]),
    node(2, '(idle)', ''),
    node(3, 'run', SERVICE_FILE, [4]),
    node(4, 'run', SERVICE_FILE, [5]),
    node(5, 'write<T>', 'node:net'),
    node(6, 'run', SERVICE_FILE),
  ];
  const timeDeltas = [0, ...samples.map(() => 100)];
  return { nodes, samples, timeDeltas, startTime: 0, endTime: 100 * samples.length };
}

test('a table has one line for each subject, with its figures below their columns', (t) => {
  const lines: Measurement['lines'] = [
    { subject: 'bare', figures: { 'requests/s': 13_114.4, 'p50 ms': 0.414 } },
    { subject: 'service', figures: { 'p50 ms': 25.04, refused: 0 } },
  ];
  t.is(
    table({ lines }),
    [
      '          requests/s   p50 ms   refused',
      'bare          13,114     0.41',
      'service                  25.0         0',
    ].join('\n'),
  );
});

test('a goal is met up to its limit, and one that was not measured is not met', (t) => {
  const goals = [
    { what: 'a', measured: 1.6, limit: 1.6 },
    { what: 'b', measured: 1.61, limit: 1.6 },
    { what: 'c', measured: 0.85, bound: 'at least' as const, limit: 0.85 },
    { what: 'd', measured: 0.84, bound: 'at least' as const, limit: 0.85 },
    { what: 'e', measured: Number.NaN, limit: 20, unit: 'ms' },
  ];
  t.deepEqual(goalLines(goals).split('\n'), [
    'met      a: 1.60 (at most 1.6)',
    'NOT MET  b: 1.61 (at most 1.6)',
    'met      c: 0.85 (at least 0.85)',
    'NOT MET  d: 0.84 (at least 0.85)',
    'NOT MET  e: NaN ms (at most 20 ms)',
  ]);
});

test('the name of a file of results has its time, and the rows if only some ran', (t) => {
  const date = new Date('2026-11-27T09:05:03.700Z');
  t.is(resultsFile(date, []), '2026-11-27T09-05-03.json');
  t.is(resultsFile(date, ['start', 'lists']), '2026-11-27T09-05-03-start-lists.json');
});

test('the time of a function has what it calls, once if it calls itself, and no time of waiting', (t) => {
  const tree = callTree(profileOf([2, 3, 4, 4, 5, 6, 2, 2]));
  t.is(tree.totalMicros, 500);
  const times = functionTimes(tree).map(({ name, place, selfMicros, totalMicros }) => [
    name,
    place,
    selfMicros,
    totalMicros,
  ]);
  t.deepEqual(times, [
    ['(root)', 'native', 0, 500],
    ['run', 'dist/src/core/runner.js:10', 400, 500],
    ['write<T>', 'node:net:10', 100, 100],
  ]);
});

test('the owner of a function is a room of the service, a package, Node.js or native code', (t) => {
  const places = [
    'dist/src/core/runner.js:10',
    'node_modules/@a/b/index.js:1',
    'node_modules/a/node_modules/yup/index.js:1',
    'node:net:10',
    'native',
  ];
  t.deepEqual(places.map(ownerOf), ['src/core', '@a/b', 'yup', 'Node.js', 'native']);
});

test('a flame graph has a frame for each function in each stack, as wide as its time', (t) => {
  const svg = flameGraph(callTree(profileOf([3, 4, 5, 5])), 2);
  const frames = [...svg.matchAll(/<title>(.*?)<\/title><rect width="([\d.]+)"/g)];
  t.deepEqual(
    frames.map(([, title, width]) => [title, Number(width)]),
    [
      ['(root) (native): 200.00 us a request, 0.00 in itself', 1600],
      ['run (dist/src/core/runner.js:10): 200.00 us a request, 50.00 in itself', 1600],
      ['run (dist/src/core/runner.js:10): 150.00 us a request, 50.00 in itself', 1200],
      ['write&lt;T&gt; (node:net:10): 100.00 us a request, 100.00 in itself', 800],
    ],
  );
});
