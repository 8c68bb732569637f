import test from 'ava';
import fc from 'fast-check';
import type { PolicyFile, PolicyRule } from '../../src/access/policy-definition.js';
import { Policy } from '../../src/access/policy.js';
import { readPolicy } from '../../src/access/read-policy.js';
import { ANONYMOUS, type Caller, MANAGER, type Voucher } from '../../src/api/caller.js';
import { Cluster } from '../../src/api/cluster.js';
import type { AccessDecision, AccessQuestion } from '../../src/core/access-policy.js';
import { globMatcher } from '../../src/plugin.js';

const POLICY = `
rules:
  - name: operators
    callers: ["broker:ops-*"]
    effects: [read, change]
  - name: deployer
    callers: [ci]
    actions: [restart_unit, unit_logs]
    clusters: [prod]
    units: ["web@*.service", db.service]
  - callers: [ci]
    actions: ["list_*"]
    clusters: [prod, "test-?"]
    units: ["web@*.service"]
  - name: watchers
    callers: ["*"]
    effects: [read]
    clusters: ["test-*"]
  - callers: [anonymous]
    actions: [list_machines]
  - name: openaperture
    callers: [manager]
    effects: [read]
  - name: over http
    callers: ["token:ci"]
    actions: [restart_unit]
    clusters: [test-1]
`;

const ACTIONS = {
  list_machines: { effect: 'read', unitMarks: 'none' },
  check_cluster: { effect: 'read', unitMarks: 'none' },
  list_units: { effect: 'read', unitMarks: 'patterns' },
  list_unit_states: { effect: 'read', unitMarks: 'names' },
  unit_logs: { effect: 'read', unitMarks: 'names' },
  restart_unit: { effect: 'change', unitMarks: 'names' },
  restart_all: { effect: 'change', unitMarks: 'names' },
  stop_matching: { effect: 'change', unitMarks: 'patterns' },
} as const;

const CLUSTERS: Readonly<Record<string, Cluster | undefined>> = {
  '-': undefined,
  'no name': new Cluster('Zqtoken'),
  ...Object.fromEntries(
    ['prod', 'test-1', 'test-22'].map((name) => [name, new Cluster(`Zq${name}`, undefined, name)]),
  ),
};

function callerNamed(text: string): Caller {
  if (text === 'anonymous') return ANONYMOUS;
  if (text === 'manager') return MANAGER;
  const [verifiedBy, name = ''] = text.split('/');
  return { verifiedBy: verifiedBy as Voucher, name };
}

function question(
  caller: Caller,
  action: string,
  cluster: string,
  units: readonly string[] = [],
): AccessQuestion {
  const { effect, unitMarks } = ACTIONS[action as keyof typeof ACTIONS];
  return { caller, action: { name: action, effect }, cluster: CLUSTERS[cluster], units, unitMarks };
}

/** The name of the rule, with the scope when it is not every unit; or `denied`. */
function shown(decision: AccessDecision): string {
  if (!decision.allowed) return 'denied';
  return decision.units === undefined ? decision.rule : `${decision.rule} for ${decision.units.join(' ')}`;
}

const WEB = 'web@1.service';
const DECISIONS: readonly [
  caller: string,
  action: string,
  cluster: string,
  units: string[],
  expected: string,
][] = [
  // Without clusters and units: everywhere, for everything.
  ['broker/ops-ann', 'restart_unit', 'prod', ['x.service'], 'operators'],
  ['broker/ops-ann', 'restart_unit', 'no name', ['x.service'], 'operators'],
  ['broker/ops-ann', 'restart_all', 'prod', [], 'operators'],
  ['broker/ops-ann', 'list_machines', '-', [], 'operators'],
  ['broker/ops-', 'list_units', 'prod', [], 'operators'],
  // The voucher of its pattern is the broker.
  ['token/ops-ann', 'restart_unit', 'prod', ['x.service'], 'denied'],
  ['service/ops-ann', 'list_machines', 'prod', [], 'denied'],
  ['broker/ops', 'list_machines', 'prod', [], 'denied'],
  ['broker/OPS-ann', 'list_machines', 'prod', [], 'denied'],
  // Units that the request names.
  ['broker/ci', 'restart_unit', 'prod', [WEB], 'deployer for db.service web@*.service'],
  ['token/ci', 'restart_unit', 'prod', [WEB], 'deployer for db.service web@*.service'],
  ['service/ci', 'restart_unit', 'prod', [WEB], 'deployer for db.service web@*.service'],
  ['broker/ci', 'restart_unit', 'prod', ['db.service', WEB], 'deployer for db.service web@*.service'],
  ['broker/ci', 'restart_unit', 'prod', ['db.service', 'x.service'], 'denied'],
  ['broker/ci', 'restart_unit', 'prod', ['web.service'], 'denied'],
  ['broker/ci', 'unit_logs', 'prod', ['x.service'], 'denied'],
  ['broker/ci', 'restart_unit', 'test-1', [WEB], 'denied'],
  ['broker/ci', 'restart_unit', 'no name', [WEB], 'denied'],
  ['broker/cia', 'restart_unit', 'prod', [WEB], 'denied'],
  ['anonymous', 'restart_unit', 'prod', [WEB], 'denied'],
  // Reads that name no unit see those of the scope; a change that could name a unit has none.
  ['broker/ci', 'list_units', 'prod', [], 'rule 3 for web@*.service'],
  ['broker/ci', 'list_unit_states', 'prod', [], 'rule 3 for web@*.service'],
  ['broker/ci', 'list_unit_states', 'prod', [WEB], 'rule 3 for web@*.service'],
  ['broker/ci', 'list_unit_states', 'prod', ['db.service'], 'denied'],
  ['broker/ci', 'restart_unit', 'prod', [], 'denied'],
  // An action that knows no units matches no rule with units.
  ['broker/ci', 'list_machines', 'prod', [], 'denied'],
  ['broker/ci', 'check_cluster', 'prod', [], 'denied'],
  // A rule without units makes the scope whole.
  ['broker/ci', 'list_units', 'test-1', [], 'watchers'],
  ['broker/ci', 'list_unit_states', 'test-1', ['db.service'], 'watchers'],
  ['broker/ci', 'list_unit_states', 'test-1', [WEB], 'rule 3'],
  ['broker/ci', 'list_units', 'test-22', [], 'watchers'],
  ['token/ci', 'restart_unit', 'test-1', ['x.service'], 'over http'],
  ['broker/ci', 'restart_unit', 'test-1', ['x.service'], 'denied'],
  // `*` is every verified caller, and clusters with such a name.
  ['broker/eve', 'check_cluster', 'test-22', [], 'watchers'],
  ['token/eve', 'check_cluster', 'test-22', [], 'watchers'],
  ['service/eve', 'check_cluster', 'test-22', [], 'watchers'],
  ['broker/eve', 'check_cluster', 'prod', [], 'denied'],
  ['broker/eve', 'check_cluster', 'no name', [], 'denied'],
  ['broker/eve', 'list_machines', '-', [], 'denied'],
  ['broker/eve', 'restart_unit', 'test-1', [WEB], 'denied'],
  // The reserved names are never users of the broker, and no `*`.
  ['anonymous', 'check_cluster', 'test-1', [], 'denied'],
  ['anonymous', 'list_machines', 'test-1', [], 'rule 5'],
  ['anonymous', 'list_machines', '-', [], 'rule 5'],
  ['broker/anonymous', 'list_machines', 'prod', [], 'denied'],
  ['token/anonymous', 'list_machines', 'prod', [], 'denied'],
  ['manager', 'list_units', 'no name', [], 'openaperture'],
  ['manager', 'unit_logs', 'prod', ['x.service'], 'openaperture'],
  ['manager', 'restart_unit', 'prod', [WEB], 'denied'],
  ['broker/manager', 'list_units', 'prod', [], 'denied'],
  ['token/manager', 'list_units', 'prod', [], 'denied'],
  ['broker/manager', 'list_units', 'test-1', [], 'watchers'],
];

test('decisions for callers, actions, clusters and units', (t) => {
  const policy = new Policy(readPolicy(POLICY));
  // Twice: the second one comes from what is remembered.
  for (const [caller, action, cluster, units, expected] of DECISIONS)
    for (const _ of [1, 2])
      t.is(
        shown(policy.decide(question(callerNamed(caller), action, cluster, units))),
        expected,
        [caller, action, cluster, ...units].join(' '),
      );
});

test('a change that a pattern names is allowed within the scope, and asks about each unit', (t) => {
  const policy = new Policy({
    rules: [{ callers: ['ci'], effects: ['change'], units: ['web@*.service'] }],
  });
  const ci = callerNamed('broker/ci');
  t.is(shown(policy.decide(question(ci, 'stop_matching', 'prod'))), 'rule 1 for web@*.service');
  t.is(shown(policy.decide(question(ci, 'restart_all', 'prod'))), 'denied');
});

test('a policy without rules denies everything', (t) => {
  const policy = new Policy({ rules: [] });
  for (const action of Object.keys(ACTIONS))
    for (const cluster of Object.keys(CLUSTERS))
      t.is(shown(policy.decide(question(callerNamed('broker/ops'), action, cluster))), 'denied');
});

test('the scope of several rules is that of all of them together, the same in every order', (t) => {
  const rules: PolicyRule[] = [
    { callers: ['ci'], actions: ['list_units'], units: ['b.service', 'a.service'] },
    { callers: ['c?'], effects: ['read'], units: ['c*', 'a.service'] },
    { callers: ['other'], effects: ['read'] },
  ];
  const ask = question(callerNamed('broker/ci'), 'list_units', 'prod');
  for (const order of [rules, rules.toReversed()]) {
    const decision = new Policy({ rules: order }).decide(ask);
    t.deepEqual(decision.allowed && decision.units, ['a.service', 'b.service', 'c*']);
  }
});

test('a caller whose name has a colon is known by its voucher, and is nobody else', (t) => {
  const policy = new Policy({ rules: [{ callers: ['token:ci', 'broker:a:*'], effects: ['read'] }] });
  const decide = (caller: Caller) => shown(policy.decide(question(caller, 'list_units', 'prod')));
  t.is(decide({ verifiedBy: 'broker', name: 'token:ci' }), 'denied');
  t.is(decide({ verifiedBy: 'token', name: 'ci' }), 'rule 1');
  t.is(decide({ verifiedBy: 'broker', name: 'a:b' }), 'rule 1');
  t.is(decide({ verifiedBy: 'broker', name: 'a' }), 'denied');
});

test('a denial names the caller with its voucher, the action, the cluster and the units that a rule would need', (t) => {
  const policy = new Policy({ rules: [] });
  for (const [caller, action, cluster, units, expected] of [
    [
      'broker/ci',
      'restart_unit',
      'prod',
      [WEB],
      'It needs a rule for the caller broker:ci, for the action restart_unit or the effect change, on the cluster prod, that covers the unit web@1.service.',
    ],
    [
      'anonymous',
      'list_units',
      'no name',
      [],
      `It needs a rule for the caller anonymous, for the action list_units or the effect read, on a cluster that has no name in CLUSTERS_FILE (hash ${CLUSTERS['no name']?.hash}): one without \`clusters\`.`,
    ],
    [
      'manager',
      'list_machines',
      '-',
      [],
      'It needs a rule for the caller manager, for the action list_machines or the effect read, without a cluster: one without `clusters`, and without `units`, as the action knows no units.',
    ],
    [
      'broker/ci',
      'restart_all',
      'test-1',
      [],
      'It needs a rule for the caller broker:ci, for the action restart_all or the effect change, on the cluster test-1, and without `units`, as the request names no unit.',
    ],
  ] as const)
    t.deepEqual(policy.decide(question(callerNamed(caller), action, cluster, units)), {
      allowed: false,
      needed: expected,
    });
});

test('a denial shows no token, and no character that could control a terminal', (t) => {
  const { needed } = denied(
    new Policy({ rules: [] }).decide(
      question(
        { verifiedBy: 'broker', name: `\u001b[31m\u202e${'x'.repeat(500)}` },
        'unit_logs',
        'no name',
        'abcdefgh'.split('').map((letter) => `${letter}.service`),
      ),
    ),
  );
  t.false(needed.includes('Zqtoken'));
  t.regex(needed, /^[\x20-\x7e]+$/);
  t.true(needed.length < 1_000);
  t.true(needed.includes('a.service, b.service, c.service, d.service, e.service and 3 more'));
});

function denied(decision: AccessDecision): { needed: string } {
  if (decision.allowed) throw new Error('it is allowed');
  return decision;
}

const PATTERN = fc.constantFrom('*', 'a', 'a*', '*b', 'a?', 'ab');
const NAME = fc.constantFrom('a', 'b', 'ab', 'aab', 'manager', 'anonymous');
const UNIT_PATTERN = PATTERN.map((each) => `${each}.service`);
const list = <T>(of: fc.Arbitrary<T>) => fc.array(of, { minLength: 1, maxLength: 3 });
const RULE: fc.Arbitrary<PolicyRule> = fc
  .record({
    callers: list(
      fc.oneof(
        PATTERN,
        fc.constantFrom('anonymous', 'manager', 'manager:*', 'broker:manager', 'broker:anonymous'),
        fc.tuple(fc.constantFrom('broker', 'token', 'service'), PATTERN).map(([by, name]) => `${by}:${name}`),
      ),
    ),
    what: fc.oneof(
      fc.record({ actions: list(fc.constantFrom(...Object.keys(ACTIONS), 'list_*', '*unit*')) }),
      fc.record({ effects: list(fc.constantFrom('read' as const, 'change' as const)) }),
    ),
    clusters: fc.option(list(fc.constantFrom('prod', 'test-*', '*')), { nil: undefined }),
    units: fc.option(list(UNIT_PATTERN), { nil: undefined }),
  })
  .map(({ what, clusters, units, ...rest }) => ({
    ...rest,
    ...what,
    ...(clusters && { clusters }),
    ...(units && { units }),
  }));
const CALLER: fc.Arbitrary<Caller> = fc.oneof(
  fc.constant(ANONYMOUS),
  fc.constant(MANAGER),
  fc.record({
    verifiedBy: fc.constantFrom('broker' as const, 'token' as const, 'service' as const),
    name: NAME,
  }),
);

/** The semantics as docs/access.md states them, rule by rule and unit by unit, without anything prepared. */
function naive(
  { rules }: PolicyFile,
  asked: AccessQuestion,
): { allowed: boolean; sees: (unit: string) => boolean } {
  const glob = (patterns: readonly string[], text: string) =>
    patterns.some((each) => globMatcher(each)(text));
  const isCaller = (pattern: string): boolean => {
    const { name, verifiedBy } = asked.caller;
    if (verifiedBy === undefined) return pattern === 'anonymous';
    if (verifiedBy === 'manager') return pattern === 'manager' || pattern === 'manager:*';
    if (pattern === 'anonymous' || pattern === 'manager') return false;
    const [first = '', second] = pattern.split(':');
    return second === undefined ? glob([first], name) : first === verifiedBy && glob([second], name);
  };
  const mine = rules.filter(
    (rule) =>
      rule.callers.some(isCaller) &&
      (rule.actions === undefined
        ? (rule.effects ?? []).includes(asked.action.effect)
        : glob(rule.actions, asked.action.name)) &&
      (rule.clusters === undefined ||
        (asked.cluster?.name !== undefined && glob(rule.clusters, asked.cluster.name))),
  );
  const sees = (unit: string) => mine.some(({ units }) => units === undefined || glob(units, unit));
  const hasWhole = mine.some(({ units }) => units === undefined);
  if (asked.units.length > 0) return { allowed: asked.units.every(sees), sees };
  const scoped =
    asked.unitMarks === 'patterns' || (asked.unitMarks === 'names' && asked.action.effect === 'read');
  return { allowed: hasWhole || (scoped && mine.length > 0), sees };
}

test('a policy decides as its rules say one by one, for every caller, action, cluster and units', (t) => {
  const asked = fc.record({
    caller: CALLER,
    action: fc.constantFrom(...Object.keys(ACTIONS)),
    cluster: fc.constantFrom(...Object.keys(CLUSTERS)),
    units: fc.uniqueArray(
      NAME.map((name) => `${name}.service`),
      { maxLength: 3 },
    ),
  });
  fc.assert(
    fc.property(
      fc.array(RULE, { maxLength: 6 }),
      fc.array(asked, { minLength: 1, maxLength: 20 }),
      (rules, all) => {
        const policy = new Policy({ rules });
        for (const { caller, action, cluster, units } of all) {
          const named = ACTIONS[action as keyof typeof ACTIONS].unitMarks === 'none' ? [] : units;
          const one = question(caller, action, cluster, named);
          const expected = naive({ rules }, one);
          const decision = policy.decide(one);
          t.is(decision.allowed, expected.allowed);
          if (!decision.allowed || one.unitMarks === 'none') continue;
          const { units: scope } = decision;
          for (const unit of ['a.service', 'b.service', 'ab.service', 'x.timer'])
            t.is(scope === undefined || scope.some((each) => globMatcher(each)(unit)), expected.sees(unit));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('decisions for more callers than are remembered stay right', (t) => {
  const policy = new Policy({ rules: [{ callers: ['ci-*5'], effects: ['read'] }] });
  for (let index = 0; index < 12_000; index++) {
    const caller: Caller = { verifiedBy: 'broker', name: `ci-${index}` };
    const { allowed } = policy.decide(question(caller, 'list_units', 'prod'));
    if (allowed !== (index % 10 === 5)) t.fail(caller.name);
  }
  t.pass();
});
