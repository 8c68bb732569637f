import test from 'ava';
import type { PreparedAction } from '../../src/core/prepare-action.js';
import { NO_SETTINGS, NO_VALUES } from '../../src/core/plugin-settings.js';
import { watchedAction } from '../../src/core/watched-action.js';
import { DESCRIPTION } from '../support/action-description.js';
import { actionRequest } from '../support/action-request.js';

/** A watched action with these functions, and how often its code runs now. */
function watched(functions: Partial<PreparedAction>): { action: PreparedAction; running: () => number } {
  let count = 0;
  const unused = async () => {};
  const prepared = {
    description: DESCRIPTION,
    injects: new Set<symbol>(),
    check: () => ({}),
    run: unused,
    probe: undefined,
    unitMarks: 'none' as const,
    unitsIn: () => [],
    callsOthers: false,
    declaredSettings: NO_SETTINGS,
    settings: NO_VALUES,
    dispose: unused,
  };
  const activity = { began: () => void count++, ended: () => void count-- };
  return { action: watchedAction({ ...prepared, ...functions }, activity), running: () => count };
}

const REQUEST = actionRequest({ parameters: {}, cluster: undefined });

function fail(): never {
  throw new Error('failed');
}

test('a run counts until its handler ends, and each run counts', async (t) => {
  const ends: (() => void)[] = [];
  const { action, running } = watched({ run: async () => new Promise<void>((end) => ends.push(end)) });
  const runs = [action.run(REQUEST), action.run(REQUEST)];
  t.is(running(), 2);
  ends[0]?.();
  await runs[0];
  t.is(running(), 1);
  ends[1]?.();
  await runs[1];
  t.is(running(), 0);
});

test('a probe counts until it ends, if the action has one', async (t) => {
  t.is(watched({}).action.probe, undefined);
  let end = () => {};
  const { action, running } = watched({
    probe: async () => new Promise<object>((resolve) => (end = () => resolve({ found: true }))),
  });
  const probing = action.probe?.(REQUEST);
  t.is(running(), 1);
  end();
  t.deepEqual(await probing, { found: true });
  t.is(running(), 0);
});

test('a handler that fails, or throws at once, has ended', async (t) => {
  for (const run of [async () => fail(), fail]) {
    const { action, running } = watched({ run });
    await t.throwsAsync(action.run(REQUEST), { message: 'failed' });
    t.is(running(), 0);
  }
});

test('a check of parameters counts, and gives what it gave', (t) => {
  let during: number | undefined;
  const { action, running } = watched({
    check: (sent) => {
      during = running();
      return sent;
    },
  });
  t.is(action.check('sent'), 'sent');
  t.deepEqual([during, running()], [1, 0]);
  const failing = watched({ check: fail });
  t.throws(() => failing.action.check({}), { message: 'failed' });
  t.is(failing.running(), 0);
});

test('a clean-up counts, and fails as before', async (t) => {
  const { action, running } = watched({ dispose: async () => fail() });
  const cleaning = (async () => action.dispose())();
  t.is(running(), 1);
  await t.throwsAsync(cleaning, { message: 'failed' });
  t.is(running(), 0);
});
