import test from 'ava';
import { ListRoom, MAX_HELD } from '../../../src/clusters/fleet/list-room.js';

const signal = new AbortController().signal;
const settle = () => new Promise(setImmediate);
const page = (characters: number) => async () => ({ characters });

test('while there is no room, only one list reads on; the others go on when it has ended', async (t) => {
  const { room, end } = await fullRoom();
  const second = room.begin();
  await second.page(signal, page(1));
  let done = false;
  const waiting = second.page(signal, page(1)).then(() => (done = true));
  const third = room.begin();
  await third.page(signal, page(1));
  third.end();
  await settle();
  t.false(done);
  end();
  await waiting;
  t.is(second.read, 2);
});

test('the first page of a list never waits', async (t) => {
  const room = new ListRoom();
  await room.begin().page(signal, page(MAX_HELD));
  t.is((await room.begin().page(signal, page(7))).characters, 7);
});

test('there is room up to the last character, and a first page takes none before it is read', async (t) => {
  const room = new ListRoom();
  const [large, small] = [room.begin(), room.begin()];
  void room.begin().page(signal, () => new Promise<{ characters: number }>(() => {}));
  await large.page(signal, page(MAX_HELD - 2));
  await small.page(signal, page(1));
  // Both go on: the first one that asked without room would go on alone.
  t.is((await small.page(signal, page(0))).characters, 0);
  t.is((await large.page(signal, page(0))).characters, 0);
});

test('a list that waits for its server keeps no other from reading, however little room there is', async (t) => {
  const room = new ListRoom();
  void room.begin().page(signal, () => new Promise<{ characters: number }>(() => {}));
  const [large, small] = [room.begin(), room.begin()];
  await small.page(signal, page(1));
  await large.page(signal, page(MAX_HELD));
  t.is((await small.page(signal, page(7))).characters, 7);
});

test('pages that are being read take room, as much as the largest page before', async (t) => {
  const { room, end } = await fullRoom();
  const list = room.begin();
  await list.page(signal, page(MAX_HELD / 4));
  end();
  let begun = 0;
  let finish = () => {};
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const unfinished = async () => {
    begun += 1;
    await finished;
    return { characters: 0 };
  };
  const pages = Array.from({ length: 3 }, async () => list.page(signal, unfinished));
  const other = room.begin();
  await other.page(signal, page(1));
  await other.page(signal, page(1));
  pages.push(list.page(signal, unfinished));
  await settle();
  t.is(begun, 3);
  finish();
  await Promise.all(pages);
  t.is(begun, 4);
});

test('pages that waited take room too: those of the list that began first go on, and others when they are read', async (t) => {
  const { room, end } = await fullRoom();
  const [early, late] = [room.begin(), room.begin()];
  await early.page(signal, page(MAX_HELD / 4));
  await late.page(signal, page(1));
  let finish = () => {};
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const begun: string[] = [];
  const read = (name: string) => async () => {
    begun.push(name);
    await finished;
    return { characters: 0 };
  };
  const pages = Array.from({ length: 4 }, async () => early.page(signal, read('early')));
  pages.unshift(late.page(signal, read('late')));
  await settle();
  t.deepEqual(begun, []);
  end();
  await settle();
  t.deepEqual(begun, ['early', 'early', 'early', 'early']);
  finish();
  await settle();
  t.is(begun.at(-1), 'late');
  await Promise.all(pages);
});

test('a page whose caller leaves while it waits is not read', async (t) => {
  const { room, end } = await fullRoom();
  const list = room.begin();
  await list.page(signal, page(1));
  const caller = new AbortController();
  let read = false;
  const waiting = list.page(caller.signal, async () => {
    read = true;
    return { characters: 1 };
  });
  caller.abort(new Error('the deadline passed'));
  await t.throwsAsync(waiting, { message: 'the deadline passed' });
  end();
  await settle();
  t.false(read);
});

test('a page that fails gives its room back', async (t) => {
  const room = new ListRoom();
  const [first, second, third] = [room.begin(), room.begin(), room.begin()];
  await first.page(signal, page(1));
  await third.page(signal, page(1));
  await second.page(signal, page(MAX_HELD / 2));
  let fail = (_error: Error) => {};
  const failing = second.page(
    signal,
    () => new Promise<{ characters: number }>((_resolve, reject) => (fail = reject)),
  );
  await first.page(signal, page(1));
  const waiting = third.page(signal, page(7));
  await settle();
  t.is(third.read, 1);
  fail(new Error('no'));
  await t.throwsAsync(failing, { message: 'no' });
  t.is((await waiting).characters, 7);
});

/** A room in which one list uses up everything and reads on until `end`. */
async function fullRoom(): Promise<{ room: ListRoom; end: () => void }> {
  const room = new ListRoom();
  const list = room.begin();
  await list.page(signal, page(MAX_HELD));
  await list.page(signal, page(1));
  return { room, end: () => list.end() };
}
