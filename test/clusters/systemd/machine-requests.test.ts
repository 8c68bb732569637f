import test from 'ava';
import { ActionError } from '../../../src/api/action-error.js';
import type { RemoteShell } from '../../../src/api/remote-shell.js';
import { doOnce } from '../../../src/clusters/systemd/machine-requests.js';
import { ManualClock } from '../../support/manual-clock.js';

/** As an SSH shell runs a change on a machine that does not answer. */
const frozen: RemoteShell = {
  run: async (_host, _argv, { signal }) =>
    new Promise((_resolve, reject) => {
      const unknown = () => reject(new ActionError('outcome_unknown', 'it may have begun'));
      signal.addEventListener('abort', unknown, { once: true });
    }),
};

const work = {
  host: '10.0.0.1',
  key: 'a',
  repeated: false,
  age: { bootID: 'b', uptimeSeconds: 1 },
  work: 'true',
  args: [],
};

for (const [code, waitsMs] of [
  ['timeout', 1_000],
  ['cancelled', 15_000],
] as const)
  test(`of a machine that does not answer a change is unknown ${waitsMs} ms after ${code}`, async (t) => {
    const clock = new ManualClock();
    const caller = new AbortController();
    let told: unknown;
    const result = doOnce(frozen, work, {
      signal: caller.signal,
      waitMs: 28_500,
      startWithinMs: 28_500,
      onResponse: () => {},
      clock,
    });
    const telling = result.catch((error: unknown) => (told = error));
    clock.advance(30_000);
    caller.abort(new ActionError(code, 'it ends'));
    clock.advance(waitsMs - 1);
    await new Promise(setImmediate);
    t.is(told, undefined);
    clock.advance(1);
    await telling;
    t.like(told, { code: 'outcome_unknown' });
  });

test('work that waits for its turn until it could not end in time is not begun', async (t) => {
  const clock = new ManualClock();
  const busy: RemoteShell = {
    run: async (_host, _argv, { startSignal }) =>
      new Promise((_resolve, reject) => {
        startSignal?.addEventListener('abort', () => reject(startSignal.reason as Error), { once: true });
      }),
  };
  const { signal } = new AbortController();
  const options = { signal, waitMs: 28_500, startWithinMs: 16_500, onResponse: () => {}, clock };
  const result = doOnce(busy, work, options);
  clock.advance(16_500);
  await t.throwsAsync(result, { code: 'timeout', message: /^Nothing was changed on 10\.0\.0\.1/ });
});
