import test from 'ava';
import fc from 'fast-check';
import { amqpUrl, rankedAddresses } from '../../src/openaperture/broker-addresses.js';

const connection = { username: 'guest', password: 'guest', host: 'rabbit', port: 5673, virtualHost: '/' };

test('a connection becomes a URL', (t) => {
  t.is(amqpUrl(connection), 'amqp://guest:guest@rabbit:5673/%2F');
  t.is(amqpUrl({ ...connection, port: null }), 'amqp://guest:guest@rabbit/%2F', "AMQP's own port");
  t.is(amqpUrl({ ...connection, virtualHost: null }), 'amqp://guest:guest@rabbit:5673', 'the virtual host /');
  t.is(amqpUrl({ ...connection, host: '2001:db8::1' }), 'amqp://guest:guest@[2001:db8::1]:5673/%2F');
  t.is(amqpUrl({ ...connection, host: 'rabbit_1' }), 'amqp://guest:guest@rabbit_1:5673/%2F');
});

test('user, password and virtual host come out of the URL as they went in, whatever they are made of', (t) => {
  const text = fc.string({ unit: 'grapheme', minLength: 1 });
  fc.assert(
    fc.property(text, text, text, (username, password, virtualHost) => {
      const url = new URL(amqpUrl({ ...connection, username, password, virtualHost }));
      t.is(decodeURIComponent(url.username), username);
      t.is(decodeURIComponent(url.password), password);
      t.is(decodeURIComponent(url.pathname.slice(1)), virtualHost);
      t.is(url.host, 'rabbit:5673');
      t.is(url.search + url.hash, '');
    }),
  );
});

test("a broker's connections come in any order, and before those of its failover", (t) => {
  const own = ['a', 'b', 'c'].map((host) => ({ ...connection, host }));
  const failover = ['x', 'y'].map((host) => ({ ...connection, host }));
  const orders = new Set<string>();
  for (let i = 0; i < 500; i++) {
    const ranked = rankedAddresses({ own, failover });
    t.deepEqual(
      ranked.map(({ preferred }) => preferred),
      [true, true, true, false, false],
    );
    orders.add(ranked.map(({ url }) => new URL(url).hostname).join(''));
  }
  t.is(orders.size, 12);
  t.true(orders.has('abcxy') && orders.has('cbayx'));
});
