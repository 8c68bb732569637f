import { getEventListeners } from 'node:events';
import test from 'ava';
import { AbortGroups } from '../../src/lib/abort-groups.js';

function opened() {
  const aborted: [member: string, reason: unknown][] = [];
  const groups = new AbortGroups<string>((member, reason) => aborted.push([member, reason]));
  return { groups, aborted };
}

test('every member of a group is called back once, with the reason', (t) => {
  const { groups, aborted } = opened();
  const controller = new AbortController();
  for (const member of ['a', 'b', 'c']) groups.add(controller.signal, member);
  groups.delete(controller.signal, 'b');
  controller.abort('lost');
  controller.abort('again');
  t.deepEqual(aborted, [
    ['a', 'lost'],
    ['c', 'lost'],
  ]);
});

test('a group is not called back when the signal of another one is aborted', (t) => {
  const { groups, aborted } = opened();
  const [one, other] = [new AbortController(), new AbortController()];
  groups.add(one.signal, 'one');
  groups.add(other.signal, 'other');
  other.abort('lost');
  t.deepEqual(aborted, [['other', 'lost']]);
});

test('a signal has one listener, however many members its group has', (t) => {
  const { groups } = opened();
  const { signal } = new AbortController();
  for (let n = 0; n < 100; n++) groups.add(signal, `member ${n}`);
  for (let n = 0; n < 100; n++) groups.delete(signal, `member ${n}`);
  groups.add(signal, 'another');
  t.is(getEventListeners(signal, 'abort').length, 1);
});

test('a member may be removed while its group is called back', (t) => {
  const controller = new AbortController();
  const aborted: string[] = [];
  const groups = new AbortGroups<string>((member) => {
    aborted.push(member);
    groups.delete(controller.signal, 'b');
  });
  for (const member of ['a', 'b', 'c']) groups.add(controller.signal, member);
  controller.abort();
  t.deepEqual(aborted, ['a', 'c']);
});
