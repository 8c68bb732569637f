import { readFile } from 'node:fs/promises';
import test from 'ava';
import { publishedSchema } from '../../src/access/check-by-schema.js';
import { MAX_POLICY_BYTES, POLICY_SCHEMA } from '../../src/access/policy-definition.js';
import { readPolicy } from '../../src/access/read-policy.js';
import { inRepository } from '../support/repository.js';

const RULE = '{"callers": ["ci"], "actions": ["list_units"]}';

test('a policy is read from YAML and from JSON', (t) => {
  const yaml = `
    # Who deploys.
    rules:
      - name: deploy web
        callers: &deployers [ci, "token:deploy-*"]
        actions: [restart_unit]
        clusters: [prod]
        units: ["web@*.service"]
      - callers: *deployers
        effects: [read]
  `;
  const rules = [
    {
      name: 'deploy web',
      callers: ['ci', 'token:deploy-*'],
      actions: ['restart_unit'],
      clusters: ['prod'],
      units: ['web@*.service'],
    },
    { callers: ['ci', 'token:deploy-*'], effects: ['read'] },
  ];
  t.deepEqual(readPolicy(yaml), { rules });
  t.deepEqual(readPolicy(JSON.stringify({ rules })), { rules });
  t.deepEqual(readPolicy(JSON.stringify({ rules }, null, '\t')), { rules });
  t.deepEqual(readPolicy('rules: []'), { rules: [] });
  const $schema = 'https://example.com/policy.schema.json';
  t.deepEqual(readPolicy(JSON.stringify({ $schema, rules: [] })), { $schema, rules: [] });
});

/** YAML whose aliases grow tenfold with each line. */
const ALIAS_BOMB = [
  'a: &a [x, x, x, x, x, x, x, x, x, x]',
  ...'bcdefghi'.split('').map((key, index) => `${key}: &${key} [${`*${'abcdefgh'[index]}, `.repeat(10)}]`),
  'rules: *i',
].join('\n');

const REFUSED: Record<string, [text: string, problem: RegExp]> = {
  'an empty file': ['', /^line 1, column 1: the file must be a map$/],
  'a list': ['[]', /^line 1, column 1: the file must be a map$/],
  'no rules': ['{}', /the file needs rules$/],
  'rules that are no list': ['rules: x', /^line 1, column 8: rules must be a list$/],
  'a rule without callers': ['rules:\n  - actions: [x]', /^line 2, column 5: rules\[0\] needs callers$/],
  'a rule without actions and effects': ['rules:\n  - callers: [x]', /rules\[0\] needs actions or effects$/],
  'a rule with actions and effects': [
    'rules: [{callers: [x], actions: [y], effects: [read]}]',
    /rules\[0\] needs actions or effects, not both$/,
  ],
  'a misspelt key': [
    'rules:\n  - callers: [x]\n    effects: [read]\n    cluster: [prod]',
    /^line 4, column 5: rules\[0\]\.cluster is unknown; did you mean clusters\?$/,
  ],
  'a key that is nothing like a known one': [
    'rules: []\ndefault: allow',
    /^line 2, column 1: default is unknown; known are \$schema, rules$/,
  ],
  'a rule that denies': [
    'rules: [{callers: [x], actions: [y], deny: true}]',
    /rules\[0\]\.deny is unknown; known are name, callers, actions, effects, clusters, units$/,
  ],
  'a key of objects': ['{"rules": [], "__proto__": []}', /__proto__ is unknown/],
  'a merge key': ['x: &x {}\nrules: []\n<<: *x', /<< is unknown/],
  'no caller': ['rules: [{callers: [], actions: [y]}]', /rules\[0\]\.callers must not be empty$/],
  'one caller in place of a list': ['rules: [{callers: ci, actions: [y]}]', /callers must be a list$/],
  'a caller that is a number': [
    'rules:\n- callers: [ci, 17]\n  actions: [y]',
    /^line 2, column 17: rules\[0\]\.callers\[1\] must be a text: put it in quotes$/,
  ],
  'a caller that is nothing': ['rules: [{callers: [null], actions: [y]}]', /callers\[0\] must be a text$/],
  'an unknown voucher': [
    'rules: [{callers: ["brokr:ci"], actions: [y]}]',
    /a name with a colon needs one of these/,
  ],
  'an empty name after a voucher': ['rules: [{callers: ["broker:"], actions: [y]}]', /callers\[0\] must be/],
  'an effect that there is not': [
    'rules: [{callers: [x], effects: [write]}]',
    /effects\[0\] must be read or change$/,
  ],
  'an action that can have no such name': [
    'rules: [{callers: [x], actions: [List]}]',
    /actions\[0\] must be/,
  ],
  'a cluster that can have no such name': [
    'rules: [{callers: [x], actions: [y], clusters: ["a b"]}]',
    /clusters\[0\] must be/,
  ],
  'a unit with a space': ['rules: [{callers: [x], actions: [y], units: ["a b"]}]', /units\[0\] must be/],
  'no unit': ['rules: [{callers: [x], actions: [y], units: []}]', /units must not be empty$/],
  'an empty entry': ['rules: [{callers: [x], actions: [y], units:}]', /units must be a list$/],
  'two rules of one name': [
    'rules:\n- {name: a, callers: [x], actions: [y]}\n- {name: a, callers: [x], actions: [z]}',
    /^line 3, column 10: rules\[1\]\.name is the name of another rule too$/,
  ],
  'a name as if of a place': [
    'rules: [{name: rule 3, callers: [x], actions: [y]}]',
    /rules\[0\]\.name must be/,
  ],
  'a key that is there twice': [
    'rules:\n- callers: [x]\n  callers: ["*"]\n  actions: [y]',
    /^line 3, column 3: Map keys must be unique/,
  ],
  'a key that is there twice, in JSON': ['{"rules": [], "rules": []}', /Map keys must be unique/],
  'an unknown tag': ['rules: !!js/function x', /^line 1, column 8: .*tag/i],
  'two documents': ['rules: []\n---\nrules: []', /^line 2, column 1/],
  'a tab in the indentation': ['rules:\n\t- callers: [x]', /^line 2, column 1: .*[Tt]ab/],
  'JSON that is cut': [`{"rules": [${RULE}`, /^line 1, column \d+: /],
  'an unknown alias': ['rules: *x', /^it cannot be read: Unresolved alias/],
  'aliases of aliases': [ALIAS_BOMB, /^it cannot be read: Excessive alias count/],
  'an alias of itself': ['rules: &x\n  - *x', /must be a map|it cannot be read/],
  'lists in lists without end': ['['.repeat(200_000), /./],
  'more rules than anybody writes': [
    `{"rules": [${Array(501).fill(RULE).join()}]}`,
    /rules must have at most 500 entries$/,
  ],
  'more callers than anybody writes': [
    JSON.stringify({ rules: [{ callers: Array(101).fill('x'), actions: ['y'] }] }),
    /callers must have at most 100 entries$/,
  ],
  'more text than anybody writes': [
    `rules: []\n${'#'.repeat(MAX_POLICY_BYTES)}`,
    /^it has more than 262144 bytes$/,
  ],
};

for (const [what, [text, problem]] of Object.entries(REFUSED)) {
  test(`a policy with ${what} is refused`, (t) => {
    const error = t.throws(() => readPolicy(text), { message: problem });
    t.true((error?.message.length ?? 0) < 5_000);
  });
}

for (const [what, text] of Object.entries({
  'lists in brackets': '['.repeat(100_000),
  'lists on one line': '- '.repeat(100_000),
  'maps in brackets': 'a: {'.repeat(60_000),
  'keys of keys': '? '.repeat(100_000),
  'maps of maps': Array.from({ length: 600 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
  anchors: '- &a x\n'.repeat(30_000),
  directives: '%a\n'.repeat(80_000),
}))
  test(`a policy with far too many ${what} is refused before the parser has it, which V8 may end`, (t) => {
    t.throws(() => readPolicy(text), {
      message: /^line \d+, column \d+: it is nested deeper than any file of this kind/,
    });
  });

test('a policy with far too many keys is refused before all of them are compared', (t) => {
  const keys = Array.from({ length: 20_000 }, (_, index) => `k${index}: 1`).join('\n');
  t.throws(() => readPolicy(keys), { message: /a map has too many keys/ });
});

test('what is far to the right, and no list or map, is not taken for nesting', (t) => {
  const far = ' '.repeat(200);
  const yaml = `rules: ${far}# - - -\n - {callers: ${far}["a: b - c"], ${far}effects: [read]}`;
  t.throws(() => readPolicy(yaml), { message: /a name with a colon needs/ });
});

test('all problems are told at once, each with its place, up to a limit', (t) => {
  const { message } = t.throws(() => readPolicy('rules:\n- callers: x\n  unit: [a]\n- {}')) ?? {};
  t.deepEqual(message?.split('; line '), [
    'line 2, column 3: rules[0] needs actions or effects',
    '2, column 12: rules[0].callers must be a list',
    '3, column 3: rules[0].unit is unknown; did you mean units?',
    '4, column 3: rules[1] needs callers',
    '4, column 3: rules[1] needs actions or effects',
  ]);
  const many = t.throws(() => readPolicy(`{"rules": [${Array(400).fill('{}').join()}]}`));
  t.is(many?.message.split('; ').length, 21);
});

test('a problem quotes no cluster, in whose place may be a token', (t) => {
  const { message } =
    t.throws(() => readPolicy('rules: [{callers: [x], actions: [y], clusters: ["Zqsecret!"]}]')) ?? {};
  t.false(message?.includes('Zqsecret'));
});

test('schemas/policy.schema.json is what a policy is checked by', async (t) => {
  const published: unknown = JSON.parse(await readFile(inRepository('schemas/policy.schema.json'), 'utf8'));
  t.deepEqual(published, JSON.parse(JSON.stringify(publishedSchema(POLICY_SCHEMA))));
  t.false(JSON.stringify(published).includes('"form"'));
});

test('the example in docs/access.md is a policy', async (t) => {
  const page = await readFile(inRepository('docs/access.md'), 'utf8');
  const [example = '', ...more] = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text);
  t.deepEqual(more, []);
  t.is(readPolicy(example).rules.length, 5);
});
