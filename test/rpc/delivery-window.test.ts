import test from 'ava';
import { DeliveryWindow } from '../../src/rpc/delivery-window.js';

function open(given: { prefetch?: number; fits?: number } = {}) {
  const state = { room: 256, held: 0 };
  const window = new DeliveryWindow({
    prefetch: 200,
    fits: 256,
    room: () => state.room,
    held: () => state.held,
    ...given,
  });
  return { window, state };
}

test('a new connection gets PREFETCH messages, or as many of the largest size as memory has room for', (t) => {
  t.is(open().window.initial, 200);
  t.is(open({ prefetch: 1_000 }).window.initial, 256);
  t.is(open({ fits: 0 }).window.initial, 1);
});

test('a full window grows up to PREFETCH in steps, as far as memory has room', (t) => {
  const { window, state } = open({ prefetch: 1_000 });
  state.held = 255;
  t.is(window.next(256), 256, 'it is not full');
  state.held = 256;
  t.is(window.next(256), 356);
  state.room = 20.9;
  t.is(window.next(256), 276);
  state.room = 0.5;
  t.is(window.next(256), 256);
  state.room = 256;
  state.held = 950;
  t.is(window.next(950), 1_000);
  state.held = 1_000;
  t.is(window.next(1_000), 1_000);
});

test('a window that has grown is made smaller when memory is used up', (t) => {
  const { window, state } = open({ prefetch: 1_000 });
  state.held = 700;
  state.room = 0;
  t.is(window.next(700), 256);
  t.is(window.next(256), 256);
  state.room = 0.5;
  t.is(window.next(700), 700, 'not while some is left');
});

test('requests that wait for clusters that do not respond enlarge the window, up to five times PREFETCH', (t) => {
  const { window, state } = open();
  state.held = 200;
  t.is(window.next(200), 200);
  window.setWithoutResponse(150);
  t.is(window.next(200), 300);
  state.held = 300;
  t.is(window.next(300), 350);
  window.setWithoutResponse(100_000);
  state.held = 950;
  t.is(window.next(950), 1_000);
  state.held = 1_000;
  t.is(window.next(1_000), 1_000);
});

test('requests whose replies wait for long enlarge the window too, up to the same size', (t) => {
  const { window, state } = open();
  state.held = 200;
  window.setSlowReplies(60);
  t.is(window.next(200), 260);
  window.setWithoutResponse(30);
  t.is(window.next(200), 290);
  window.setSlowReplies(100_000);
  state.held = 950;
  t.is(window.next(950), 1_000);
  state.held = 1_000;
  t.is(window.next(1_000), 1_000);
});

test('the window gets its size back when no request waits for such clusters any more', (t) => {
  const { window, state } = open();
  window.setWithoutResponse(300);
  state.held = 500;
  t.is(window.next(500), 500);
  window.setWithoutResponse(0);
  t.is(window.next(500), 200);
  t.is(window.next(200), 200);
});

test('a window that is hardly too large, or not full, keeps its size', (t) => {
  const { window, state } = open({ prefetch: 1_000 });
  t.is(window.next(950), 950);
  state.held = 1_099;
  t.is(window.next(1_099), 1_099);
  t.is(window.next(1_100), 1_000);
});
