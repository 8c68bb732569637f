import test from 'ava';
import { object, string } from 'yup';
import { type Action, defineAction } from '../../src/plugin.js';
import { Catalogue } from '../../src/core/catalogue.js';
import { prepareAction, type PreparedAction } from '../../src/core/prepare-action.js';
import { doing } from '../support/actions.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { actionRequest } from '../support/action-request.js';

const prepared = (action: Action) => prepareAction(action, () => undefined);
const described = (definition: Parameters<typeof doing>[1]) =>
  prepared(doing(async () => ({}), definition)).description;

test('a name has at most 64 characters', (t) => {
  t.is(described({ name: 'a'.repeat(64) }).name.length, 64);
  t.throws(() => described({ name: 'a'.repeat(65) }), { message: /'name' must be snake_case, at most 64/ });
});

test('a time limit is a whole number of milliseconds, from 1 to five minutes, and defaults to five minutes', (t) => {
  for (const timeoutMs of [1, 300_000]) t.is(described({ timeoutMs }).timeout_ms, timeoutMs);
  t.is(described({}).timeout_ms, 300_000);
  for (const timeoutMs of [0, -1, 1.5, 300_001, Number.NaN, Number.POSITIVE_INFINITY])
    t.throws(() => described({ timeoutMs }), { message: /'timeoutMs' must be a whole number/ });
});

test('by default a repeated delivery runs a read again and refuses a change', (t) => {
  const of = (effect: Action['effect'], redelivery?: Action['redelivery']) =>
    described({ effect, redelivery }).redelivery;
  t.deepEqual([of('read'), of('change')], ['run-again', 'refuse']);
  t.deepEqual([of('read', 'refuse'), of('change', 'run-again')], ['refuse', 'run-again']);
});

test('actions are found by their names, and described in the order of their names', (t) => {
  const names = ['b', 'c', 'a'];
  const catalogue = new Catalogue(names.map((name) => prepared(doing(async () => ({}), { name }))));
  t.deepEqual(
    catalogue.describe().map(({ name }) => name),
    ['a', 'b', 'c'],
  );
  t.is(catalogue.find('b')?.description.name, 'b');
  t.is(catalogue.find('d'), undefined);
  t.is(catalogue.find('constructor'), undefined);
});

/** An action that cleans up as the test says. */
const cleaning = (name: string, dispose: () => void | Promise<void>): PreparedAction =>
  prepared({ ...doing(async () => ({}), { name }), dispose });

test('an action that fails to clean up, or takes too long, keeps no other from it, and is reported', async (t) => {
  const clock = new ManualClock();
  const cleaned: string[] = [];
  const catalogue = new Catalogue([
    cleaning('throws', () => {
      throw new Error('so');
    }),
    cleaning('rejects', async () => Promise.reject(new Error('so'))),
    cleaning('hangs', async () => new Promise(() => {})),
    cleaning('good', () => void cleaned.push('good')),
    prepared(doing(async () => ({}), { name: 'has_nothing' })),
  ]);
  const disposed = t.throwsAsync(catalogue.dispose(1_000, clock), { instanceOf: AggregateError });
  // The others clean up before the time is over.
  await new Promise(setImmediate);
  clock.advance(1_000);
  const { errors } = (await disposed) ?? { errors: [] };
  t.deepEqual(
    errors.map(({ message }: Error) => message).toSorted((a: string, b: string) => (a < b ? -1 : 1)),
    [
      'the action hangs has not cleaned up within 1000 ms',
      'the action rejects failed to clean up',
      'the action throws failed to clean up',
    ],
  );
  t.deepEqual(cleaned, ['good']);
  t.is(clock.pending, 0);
});

test('one action that fails to clean up is enough to be reported; none is not', async (t) => {
  const clock = new ManualClock();
  const failing = cleaning('failing', async () => Promise.reject(new Error('so')));
  await t.throwsAsync(new Catalogue([failing]).dispose(1_000, clock), { instanceOf: AggregateError });
  await t.notThrowsAsync(new Catalogue([cleaning('good', () => {})]).dispose(1_000, clock));
});

test('a result that is not what its action declares is given anyway, and reported where results are checked', async (t) => {
  const result = object({ a: string().required().meta({ description: 'One.' }) });
  const action = (given: object) =>
    defineAction({
      name: 'act',
      summary: 'Gives what the test says.',
      target: 'none',
      effect: 'read',
      parameters: object(),
      result,
      handle: async () => given as { a: string },
    });
  const toldFor = async (given: object, checkResults: boolean) => {
    const { log, find } = logLines();
    const { run } = prepareAction(action(given), () => undefined, { checkResults });
    t.is(await run(actionRequest({ cluster: undefined, log })), given);
    return find(/does not match its schema/).map(({ problems }) => problems);
  };
  t.deepEqual(await toldFor({ a: 'x' }, true), []);
  t.deepEqual(await toldFor({ a: 3 }, false), []);
  const [problems] = await toldFor({ a: 3, b: 1 }, true);
  t.is((problems as string[]).length, 2);
  t.true((problems as string[]).some((each) => each.startsWith('the result ')));
  const many = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`long_name_${n}`, n]));
  const [cut] = await toldFor(many, true);
  t.true((cut as string[]).every((each) => each.length <= 300));
});

test('a missing result is reported, and a probe that knows nothing is not', async (t) => {
  const toldFor = async (given: unknown) => {
    const { log, find } = logLines();
    const action = defineAction({
      name: 'act',
      summary: 'Gives what the test says.',
      target: 'none',
      effect: 'change',
      parameters: object(),
      result: string().defined().meta({ description: 'One.' }),
      handle: async () => given as string,
      probe: async () => given as string | undefined,
    });
    const { run, probe } = prepareAction(action, () => undefined, { checkResults: true });
    const told = [];
    for (const each of [run, probe]) {
      t.is(await each?.(actionRequest({ cluster: undefined, log })), given);
      told.push(find(/does not match its schema/).length);
    }
    const [ofRun = 0, ofBoth = 0] = told;
    return { run: ofRun, probe: ofBoth - ofRun };
  };
  t.deepEqual(await toldFor('x'), { run: 0, probe: 0 });
  t.deepEqual(await toldFor(3), { run: 1, probe: 1 });
  t.deepEqual(await toldFor(undefined), { run: 1, probe: 0 });
});
