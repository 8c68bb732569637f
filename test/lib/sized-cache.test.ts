import test from 'ava';
import { SizedCache } from '../../src/lib/sized-cache.js';

const keysIn = (cache: SizedCache<string>) => ['a', 'b', 'c', 'd'].filter((key) => cache.get(key) === key);

test('the entries that were set first are dropped when there are too many', (t) => {
  const cache = new SizedCache<string>({ entries: 2, size: 100 });
  for (const key of ['a', 'b', 'a', 'c']) cache.set(key, key, 1);
  t.deepEqual(keysIn(cache), ['a', 'c']);
});

test('the entries that were set first are dropped when all together are too large', (t) => {
  const cache = new SizedCache<string>({ entries: 10, size: 100 });
  cache.set('a', 'a', 40);
  cache.set('b', 'b', 40);
  cache.set('b', 'b', 60);
  t.deepEqual(keysIn(cache), ['a', 'b']);
  cache.set('c', 'c', 30);
  t.deepEqual(keysIn(cache), ['b', 'c']);
  cache.delete('b');
  cache.set('d', 'd', 70);
  t.deepEqual(keysIn(cache), ['c', 'd']);
});

test('an entry that is larger than all may be together is not kept', (t) => {
  const cache = new SizedCache<string>({ entries: 10, size: 100 });
  cache.set('a', 'a', 101);
  cache.set('b', 'b', 100);
  t.deepEqual(keysIn(cache), ['b']);
});
