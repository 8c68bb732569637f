import test from 'ava';
import { ActionError, type ActionRequest } from '../../src/plugin.js';
import { unreachableIn, Warnings } from '../../src/core/warnings.js';
import { doing } from '../support/actions.js';
import { openRunner } from '../support/open-runner.js';

type Warn = ActionRequest<unknown, unknown>['warn'];

/** Runs a call of an action with this handler. */
async function settledBy(handle: (warn: Warn) => object) {
  return openRunner([doing(async ({ warn }) => handle(warn))]).ask();
}

test('the warnings of a handler stand beside its result, each once', async (t) => {
  const settled = await settledBy((warn) => {
    warn('one host is missing');
    warn('one host is missing');
    warn('rows are missing');
    return ['a'];
  });
  t.deepEqual(settled, {
    status: 'completed',
    body: ['a'],
    details: { warnings: ['one host is missing', 'rows are missing'] },
  });
});

test('a reply without warnings has no details', async (t) => {
  t.deepEqual(await settledBy(() => ({ done: true })), { status: 'completed', body: { done: true } });
});

test('an error has the warnings in its details, beside the ones of the handler', async (t) => {
  const failing = (details?: object) =>
    settledBy((warn) => {
      warn('one host is missing');
      throw new ActionError('unit_failed', 'it failed', { details });
    });
  const warnings = ['one host is missing'];
  t.like(await failing({ unit: 'a.service' }), { body: { details: { unit: 'a.service', warnings } } });
  t.like(await failing(), { body: { details: { warnings } } });
});

test('a handler that warns in a loop gets a reply of limited size', async (t) => {
  const settled = await settledBy((warn) => {
    for (let n = 0; n < 10_000; n++) warn(`${n}${'x'.repeat(10_000)}`);
    return { done: true };
  });
  t.like(settled, { status: 'completed', body: { done: true } });
  t.true(JSON.stringify(settled).length < 30_000);
});

test('twenty warnings are added, and it is told which: no repetition, and none of the further ones', (t) => {
  const warnings = new Warnings();
  const texts = Array.from({ length: 21 }, (_, n) => `warning ${n}`);
  t.deepEqual(warnings.add('warning 0'), ['warning 0']);
  t.is(warnings.add('warning 0'), undefined);
  t.deepEqual(
    texts.slice(1).map((text) => warnings.add(text)),
    [...texts.slice(1, 20).map((text) => [text]), undefined],
  );
  const settled = warnings.addedTo({ status: 'completed', body: {} });
  t.deepEqual(settled, { status: 'completed', body: {}, details: { warnings: texts.slice(0, 20) } });
});

test('the hosts that did not answer stand beside the warnings, each once, as data', async (t) => {
  const [gone, cut] = [
    { host: '10.0.0.1', code: 'host_unreachable', reason: 'refused' },
    { host: '10.0.0.2', code: 'timeout', reason: 'no answer' },
  ];
  const settled = await settledBy((warn) => {
    warn('some are missing', { unreachable: [gone] });
    warn('some are missing', { unreachable: [{ ...gone, reason: 'later' }, cut] });
    return ['a'];
  });
  t.deepEqual(settled, {
    status: 'completed',
    body: ['a'],
    details: { warnings: ['some are missing'], unreachable: [gone, cut] },
  });
});

test('an error has the hosts of its warnings too, unless it names its own', async (t) => {
  const gone = { host: '10.0.0.1', code: 'host_unreachable', reason: 'refused' };
  const failing = (details?: object) =>
    settledBy((warn) => {
      warn('some are missing', { unreachable: [gone] });
      throw new ActionError('unit_failed', 'it failed', { details });
    });
  t.like(await failing(), { body: { details: { unreachable: [gone] } } });
  t.like(await failing({ unreachable: [] }), { body: { details: { unreachable: [] } } });
});

test('facts that are none, and endless ones, do no harm', (t) => {
  const warnings = new Warnings();
  for (const facts of [null, 5, 'text', {}, { unreachable: 5 }, { unreachable: {} }])
    t.deepEqual(warnings.add(JSON.stringify(facts), facts), [JSON.stringify(facts)]);
  const host = 'h'.repeat(10_000);
  const added = warnings.add('more', { unreachable: [null, { host }] });
  t.true(JSON.stringify(added).length < 4_000);
  for (let n = 0; n < 100; n++)
    warnings.add('again', { unreachable: Array.from({ length: 100 }, (_, at) => ({ host: `${n}.${at}` })) });
  const settled = warnings.addedTo({ status: 'completed', body: {} });
  t.is(unreachableIn(settled.status === 'completed' && settled.details).length, 1_000);
});
