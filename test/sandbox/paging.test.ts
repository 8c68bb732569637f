import test from 'ava';
import { pageOf } from '../../src/sandbox/paging.js';

const rows = Array.from({ length: 65_535 }, (_, index) => index);

test('a page whose end overflows makes the handler panic, and the pages after it start again', (t) => {
  t.is(pageOf(rows, { limit: 100, page: 656 }), 'panic');
  t.like(pageOf(rows, { limit: 100, page: 657 }), { items: rows.slice(64, 164) });
});
