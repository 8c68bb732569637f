import test from 'ava';
import { ListRoom, MAX_HELD } from '../../../src/clusters/fleet/list-room.js';

const signal = new AbortController().signal;
const settle = () => new Promise(setImmediate);
const page = (characters: number) => async () => ({ characters });

test('while there is no room, only the list that began first reads on; the others go on when it has ended', async (t) => {
  const room = new ListRoom();
  const [first, second] = [room.begin(), room.begin()];
  await second.page(signal, page(1));
  await first.page(signal, page(MAX_HELD));
  let done = false;
  const waiting = second.page(signal, page(1)).then(() => (done = true));
  await first.page(signal, page(1));
  await settle();
  t.false(done);
  first.end();
  await waiting;
  t.is(second.read, 2);
});

test('the first page of a list never waits', async (t) => {
  const room = new ListRoom();
  await room.begin().page(signal, page(MAX_HELD));
  t.is((await room.begin().page(signal, page(7))).characters, 7);
});

test('pages that are being read take room, as much as the largest page before', async (t) => {
  const room = new ListRoom();
  const [first, second] = [room.begin(), room.begin()];
  await first.page(signal, page(1));
  await second.page(signal, page(MAX_HELD / 4));
  let begun = 0;
  let end = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const pages = Array.from({ length: 10 }, async () =>
    second.page(signal, async () => {
      begun += 1;
      await ended;
      return { characters: 0 };
    }),
  );
  await settle();
  t.is(begun, 3);
  end();
  await Promise.all(pages);
  t.is(begun, 10);
});

test('a page whose caller leaves while it waits is not read', async (t) => {
  const room = new ListRoom();
  const [first, second] = [room.begin(), room.begin()];
  await second.page(signal, page(1));
  await first.page(signal, page(MAX_HELD));
  const caller = new AbortController();
  let read = false;
  const waiting = second.page(caller.signal, async () => {
    read = true;
    return { characters: 1 };
  });
  caller.abort(new Error('the deadline passed'));
  await t.throwsAsync(waiting, { message: 'the deadline passed' });
  first.end();
  await settle();
  t.false(read);
});

test('a page that fails gives its room back', async (t) => {
  const room = new ListRoom();
  const [first, second] = [room.begin(), room.begin()];
  await first.page(signal, page(1));
  await second.page(signal, page(MAX_HELD / 2));
  let fail = (_error: Error) => {};
  const failing = second.page(
    signal,
    () => new Promise<{ characters: number }>((_resolve, reject) => (fail = reject)),
  );
  const waiting = second.page(signal, page(1));
  await settle();
  fail(new Error('no'));
  await t.throwsAsync(failing, { message: 'no' });
  t.is((await waiting).characters, 1);
});
