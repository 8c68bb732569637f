import type { ChannelModel } from 'amqplib';
import test from 'ava';
import { systemClock } from '../../src/lib/clock.js';
import { type Connect, openConnection } from '../../src/rpc/open-connection.js';
import { MechanismNotOffered } from '../../src/rpc/patched-amqplib.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';

const URL = 'amqp://embedded.invalid';

test('a connection that comes when nobody waits for it any more is closed, and an error of it ends nothing', async (t) => {
  const model = await new EmbeddedBroker().connect(URL, {});
  const closed = new Promise<void>((resolve) => {
    const close = model.close.bind(model);
    model.close = async () => {
      model.emit('error', new Error('the broker shuts down'));
      resolve();
      await close();
      throw new Error('it is closed already');
    };
  });
  let arrive = () => {};
  const arrival = new Promise<void>((resolve) => (arrive = resolve));
  const stop = new AbortController();
  const connect = async () => {
    await arrival;
    return model;
  };
  const opened = openConnection({ url: URL }, { connect, name: 'test', clock: systemClock }, stop.signal);
  stop.abort(new Error('stopped'));
  await t.throwsAsync(opened, { message: 'stopped' });
  arrive();
  await t.notThrowsAsync(closed);
});

/** The mechanisms with which a connection to this URL logs in, on a broker that offers only this one, and its error. */
async function loginsAt(url: string, { offered, cert }: { offered: string; cert?: Buffer }) {
  const tried: string[] = [];
  const connect: Connect = async (_, { credentials }): Promise<ChannelModel> => {
    const { mechanism } = Object(credentials);
    tried.push(mechanism);
    if (mechanism !== offered) throw new MechanismNotOffered([offered]);
    return new EmbeddedBroker().connect(url, {});
  };
  const opened = openConnection({ url }, { connect, tls: { cert }, name: 'test', clock: systemClock });
  const error = await opened.then(
    () => undefined,
    ({ message }: Error) => message,
  );
  return { tried, error };
}

test('a client certificate is a login for amqps, after that of the URL, and before that of guest', async (t) => {
  const cert = Buffer.from('certificate');
  const tried = async (url: string, offered: string) => (await loginsAt(url, { offered, cert })).tried;
  t.deepEqual(await tried('amqps://broker', 'EXTERNAL'), ['EXTERNAL']);
  t.deepEqual(await tried('amqps://broker', 'PLAIN'), ['EXTERNAL', 'PLAIN']);
  t.deepEqual(await tried('amqps://user:Zqsecret@broker', 'PLAIN'), ['PLAIN']);
  for (const login of ['user:secret', 'user', ':secret', ':', ''])
    t.deepEqual(await tried(`amqps://${login}@broker/vhost`, 'EXTERNAL'), ['PLAIN', 'EXTERNAL']);
  t.deepEqual(await tried('amqps://broker/vhost?cacert=a://b@c', 'EXTERNAL'), ['EXTERNAL']);
});

test('a broker that offers none of the logins is refused with those that are usable', async (t) => {
  const why = 'no login mechanism is shared: the broker offers AMQPLAIN, and this side can use';
  const cert = Buffer.from('certificate');
  const at = async (url: string, given?: Buffer) => loginsAt(url, { offered: 'AMQPLAIN', cert: given });
  t.is((await at('amqps://broker', cert)).error, `${why} EXTERNAL, PLAIN`);
  t.is((await at('amqps://broker')).error, `${why} PLAIN`);
  // A certificate is of no use without TLS.
  t.is((await at('amqp://broker', cert)).error, `${why} PLAIN`);
});

test('another fault than the mechanism ends the login', async (t) => {
  let times = 0;
  const connect: Connect = async () => {
    times++;
    throw new Error('unreachable');
  };
  const tls = { cert: Buffer.from('certificate') };
  const opened = openConnection(
    { url: 'amqps://broker' },
    { connect, tls, name: 'test', clock: systemClock },
  );
  await t.throwsAsync(opened, { message: 'unreachable' });
  t.is(times, 1);
});

test('amqplib is told the name, the certificates and a time limit of its own, which ends an attempt that nobody waits for', async (t) => {
  const given: unknown[] = [];
  const connect: Connect = async (url, options) => {
    given.push(options);
    return new EmbeddedBroker().connect(url, {});
  };
  const tls = { ca: Buffer.from('ca'), cert: Buffer.from('cert'), key: Buffer.from('key'), passphrase: 'p' };
  const connection = await openConnection(
    { url: URL },
    { connect, tls, name: 'worker 1', clock: systemClock },
  );
  await connection.close(systemClock);
  t.like(given[0], {
    ...tls,
    timeout: 10_000,
    noDelay: true,
    clientProperties: { connection_name: 'worker 1' },
  });
});
