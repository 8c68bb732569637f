import { connect } from 'amqplib';
import test from 'ava';
import fc from 'fast-check';
import { brokerLogins } from '../../src/rpc/broker-address.js';
import { amqpUrl, rankedAddresses } from '../../src/openaperture/broker-addresses.js';
import { listenForLogins } from '../support/amqp-handshake.js';

const connection = { username: 'guest', password: 'guest', host: 'rabbit', port: 5673, virtualHost: '/' };

test('a connection becomes a URL', (t) => {
  t.is(amqpUrl(connection), 'amqp://guest:guest@rabbit:5673/%2F');
  t.is(amqpUrl({ ...connection, port: null }), 'amqp://guest:guest@rabbit/%2F', "AMQP's own port");
  t.is(amqpUrl({ ...connection, virtualHost: null }), 'amqp://guest:guest@rabbit:5673', 'the virtual host /');
  t.is(amqpUrl({ ...connection, host: '2001:db8::1' }), 'amqp://guest:guest@[2001:db8::1]:5673/%2F');
  t.is(amqpUrl({ ...connection, host: 'rabbit_1' }), 'amqp://guest:guest@rabbit_1:5673/%2F');
});

test('user, password and virtual host reach the broker unchanged, whatever characters they contain', async (t) => {
  const { port, logins } = await listenForLogins(t);
  const text = fc.string({ unit: 'grapheme', maxLength: 6 });
  const named = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 6 })
    // As the last segment of a path these have a special meaning, encoded or not (URL Standard, "path state").
    .filter((name) => name !== '.' && name !== '..');
  await fc.assert(
    fc.asyncProperty(text, text, named, async (username, password, virtualHost) => {
      const url = amqpUrl({ host: '127.0.0.1', port, username, password, virtualHost });
      // The server disconnects when it has the login.
      await t.throwsAsync(connect(url, { credentials: brokerLogins(url, false)[0] }));
      t.deepEqual(logins.pop(), { user: username, password, virtualHost });
    }),
    {
      examples: [
        ['', '', '/'],
        ['jürgen', 'pässwörd', 'vhöst'],
        ['a:b', '100%', '%2F'],
      ],
    },
  );
});

test("a broker's connections come in random order, and before those of its failover", (t) => {
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
