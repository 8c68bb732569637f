import test from 'ava';
import fc from 'fast-check';
import { OPERATIONS, planOf, type Target } from '../../plugins/rollout/plan.js';

const target = fc.record({
  unit: fc.constantFrom('a.service', 'b.service', 'c.service', 'd.service'),
  machineID: fc.constantFrom('1', '2', '3', '4', '5').map((digit) => digit.repeat(32)),
  states: fc.constantFrom(['active'], ['inactive'], ['failed'], ['activating'], ['active', 'failed'], []),
  hash: fc.constantFrom('x', 'y'),
});
const targets = fc.uniqueArray(target, {
  selector: ({ unit, machineID }) => unit + machineID,
  maxLength: 20,
});
const batch = fc.oneof(
  fc.integer({ min: 1, max: 30 }).map(String),
  fc.integer({ min: 1, max: 100 }).map((n) => `${n}%`),
);
const keyOf = ({ unit, machineID }: Target) => `${unit} ${machineID}`;

test('a plan has every target once, in batches of the size that was asked for', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(targets, batch, fc.constantFrom(...OPERATIONS), (given, size, operation) => {
        const plan = planOf(operation, given, size, undefined);
        if (new Set(plan.targets.map(keyOf)).size !== given.length) return false;
        const due = plan.targets.filter((each) => each.batch > 0);
        const most = size.endsWith('%')
          ? Math.max(1, Math.ceil((due.length * Number.parseInt(size, 10)) / 100))
          : Number(size);
        const counts = Array.from({ length: plan.batches }, (_, index) => {
          return due.filter((each) => each.batch === index + 1).length;
        });
        const isFull = counts.every((count, index) =>
          index < counts.length - 1 ? count === most : count >= 1,
        );
        return isFull && counts.reduce((sum, count) => sum + count, 0) === due.length;
      }),
    ),
  );
});

test('a batch has a unit on several machines only when fewer units than its size are left', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(targets, batch, (given, size) => {
        const plan = planOf('put', given, size, 'text');
        return Array.from({ length: plan.batches }, (_, index) => index + 1).every((number) => {
          const left = plan.targets.filter((each) => each.batch >= number);
          const own = left.filter((each) => each.batch === number);
          const units = (of: readonly Target[]) => new Set(of.map(({ unit }) => unit)).size;
          return units(own) === own.length || units(left) < own.length;
        });
      }),
    ),
  );
});

test('the hash of a plan is the same in any order of what the cluster lists, and another one for anything that matters', (t) => {
  const given: Target[] = [
    { unit: 'a.service', machineID: '1'.repeat(32), states: ['active'], hash: 'x' },
    { unit: 'b.service', machineID: '1'.repeat(32), states: ['active'], hash: 'x' },
  ];
  const { hash } = planOf('restart', given, '1', undefined);
  t.is(planOf('restart', given.toReversed(), '1', undefined).hash, hash);
  const [first, second] = given as [Target, Target];
  for (const changed of [
    planOf('reload', given, '1', undefined),
    planOf('restart', given, '2', undefined),
    planOf('restart', [first], '1', undefined),
    planOf('restart', [first, { ...second, states: ['failed'] }], '1', undefined),
    planOf('restart', [first, { ...second, hash: 'y' }], '1', undefined),
    planOf('put', given, '1', 'text'),
  ])
    t.not(changed.hash, hash);
});

test('nothing is to be done with what is so already', (t) => {
  const batchOf = (operation: (typeof OPERATIONS)[number], states: readonly string[]) =>
    planOf(operation, [{ unit: 'a.service', machineID: null, states, hash: null }], '1', undefined).batches;
  const each = [['active'], ['inactive'], ['failed'], ['activating'], [], ['active', 'failed']];
  const rows = {
    restart: '101101',
    start: '011111',
    stop: '100101',
    reload: '100001',
    put: '111111',
  } as const;
  for (const operation of OPERATIONS)
    t.is(each.map((states) => batchOf(operation, states)).join(''), rows[operation], operation);
});
