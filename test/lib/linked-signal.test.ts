import test from 'ava';
import { linkSignals } from '../../src/lib/linked-signal.js';
import { warningsDuring } from '../support/warnings.js';

test('linked signals abort with the first of them and its reason, until they are unlinked', (t) => {
  const [first, second, third] = [new AbortController(), new AbortController(), new AbortController()];
  const link = linkSignals(first.signal, second.signal);
  second.abort(new Error('second'));
  first.abort(new Error('first'));
  t.is(link.signal.reason.message, 'second');
  t.is(linkSignals(third.signal, second.signal).signal.reason.message, 'second', 'aborted before');
  const other = linkSignals(third.signal);
  other.unlink();
  third.abort();
  t.false(other.signal.aborted);
  other.abort(new Error('by itself'));
  t.is(other.signal.reason.message, 'by itself');
});

test('any number of signals may be linked to one signal', async (t) => {
  const { signal } = new AbortController();
  const warnings = await warningsDuring(async () => {
    for (let link = 0; link < 20; link++) linkSignals(signal);
  });
  t.deepEqual(warnings, []);
});
