import test from 'ava';
import type { Middleware } from '../../src/core/middleware.js';
import { doing, held } from '../support/actions.js';
import { callOf, codeOf, openRunner } from '../support/open-runner.js';

test('middleware sees every call, also refused and timed out ones, and can settle a call itself', async (t) => {
  const seen: string[] = [];
  const count: Middleware = async (each, next) => {
    const settled = await next();
    seen.push(`${String(each.action)} ${codeOf(settled)}`);
    return settled;
  };
  const veto: Middleware = async (each, next) =>
    each.action === 'forbidden'
      ? { status: 'error', body: { errors: ['not for you'], code: 'forbidden' } }
      : next();
  const { action } = held();
  const { runner, clock } = openRunner([action, doing(async () => t.fail(), { name: 'forbidden' })], {
    concurrency: 1,
    middlewares: [count, veto],
  });
  const running = runner.run(callOf({ timeoutMs: 200 }));
  const waiting = runner.run(callOf({ timeoutMs: 100 }));
  t.is(codeOf(await runner.run(callOf({ action: 'forbidden' }))), 'forbidden');
  await runner.run(callOf({ action: 'unknown' }));
  clock.advance(100);
  await waiting;
  clock.advance(100);
  await running;
  t.deepEqual(seen, ['forbidden forbidden', 'unknown unknown_action', 'act timeout', 'act timeout']);
});

test('a middleware that fails makes an internal error of its own call only', async (t) => {
  const defect = new Error('defect');
  const failing: Middleware = async (each, next) => {
    if (each.id === 'bad') throw defect;
    return next();
  };
  const { runner } = openRunner([doing(async () => ({}))], { middlewares: [failing] });
  t.like(await runner.run(callOf({ id: 'bad' })), { body: { code: 'internal' }, cause: defect });
  t.is(codeOf(await runner.run(callOf())), 'completed');
});
