import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import { checkBrokers } from '../../src/commands/check-brokers.js';
import { systemClock } from '../../src/lib/clock.js';
import { openConnection } from '../../src/rpc/open-connection.js';
import { connect, credentials } from '../../src/rpc/patched-amqplib.js';
import { echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { serveRequests } from '../support/requests.js';
import { inRepository } from '../support/repository.js';

const openssl = async (...args: string[]) => promisify(execFile)('openssl', args);

/** An authority with a certificate for 127.0.0.1 and one for a client. */
async function certificates(t: ExecutionContext) {
  const folder = await mkdtemp(join(tmpdir(), 'tls-'));
  t.teardown(async () => rm(folder, { recursive: true, force: true }));
  const at = (name: string) => join(folder, name);
  const key = ['-newkey', 'rsa:2048', '-nodes', '-days', '2'];
  await openssl(
    'req',
    '-x509',
    ...key,
    '-subj',
    '/CN=test authority',
    '-keyout',
    at('ca.key'),
    '-out',
    at('ca.pem'),
  );
  for (const name of ['server', 'client']) {
    const extension = ['-addext', 'subjectAltName=IP:127.0.0.1'];
    await openssl(
      'req',
      ...key,
      '-subj',
      `/CN=${name}`,
      ...extension,
      '-keyout',
      at(`${name}.key`),
      '-out',
      at(`${name}.csr`),
    );
    const signing = [
      '-CA',
      at('ca.pem'),
      '-CAkey',
      at('ca.key'),
      '-CAcreateserial',
      '-copy_extensions',
      'copyall',
      '-days',
      '2',
    ];
    await openssl('x509', '-req', '-in', at(`${name}.csr`), ...signing, '-out', at(`${name}.pem`));
  }
  const read = async (name: string) => readFile(at(name));
  return {
    folder,
    ca: await read('ca.pem'),
    server: { key: await read('server.key'), cert: await read('server.pem') },
    client: { key: await read('client.key'), cert: await read('client.pem') },
  };
}

/**
 * A RabbitMQ that accepts client certificates over TLS, and no passwords by PLAIN. Its user is `client`, the name in the
 * client's certificate.
 * @returns the ports for amqps and for amqp
 */
async function brokerWithCertificates(
  t: ExecutionContext,
  files: { folder: string; ca: Buffer; cert: Buffer; key: Buffer },
): Promise<{ tlsPort: number; port: number }> {
  const at = (name: string) => join(files.folder, name);
  const { stdout } = await promisify(execFile)(inRepository('scripts/free-port'), ['2']);
  const [tlsPort = 0, port = 0] = stdout.trim().split('\n').map(Number);
  const permission = { user: 'client', vhost: '/', configure: '.*', write: '.*', read: '.*' };
  const definitions = {
    vhosts: [{ name: '/' }],
    users: [
      { name: 'client', password_hash: '', hashing_algorithm: 'rabbit_password_hashing_sha256', tags: '' },
    ],
    permissions: [permission],
  };
  await mkdir(at('broker/conf.d'), { recursive: true });
  await writeFile(at('definitions.json'), JSON.stringify(definitions));
  await writeFile(at('broker/enabled_plugins'), '[rabbitmq_auth_mechanism_ssl].');
  const settings = {
    'listeners.ssl.1': `127.0.0.1:${tlsPort}`,
    'ssl_options.cacertfile': at('ca.pem'),
    'ssl_options.certfile': at('server.pem'),
    'ssl_options.keyfile': at('server.key'),
    'ssl_options.verify': 'verify_peer',
    'ssl_options.fail_if_no_peer_cert': 'false',
    'auth_mechanisms.1': 'EXTERNAL',
    'auth_mechanisms.2': 'AMQPLAIN',
    ssl_cert_login_from: 'common_name',
    load_definitions: at('definitions.json'),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
  await writeFile(at('broker/conf.d/10-tls.conf'), lines.join(''));
  const process = spawn(inRepository('scripts/rabbitmq'), [at('broker'), String(port)], { stdio: 'ignore' });
  const exited = once(process, 'exit');
  t.teardown(async () => {
    process.kill('SIGTERM');
    await exited;
  });
  const { ca, cert, key } = files;
  const url = `amqps://127.0.0.1:${tlsPort}`;
  await eventually('RabbitMQ serves', async () =>
    connect(url, { ca, cert, key, credentials: credentials.external() }).then(
      async (connection) => connection.close().then(() => true),
      () => false,
    ),
  );
  return { tlsPort, port };
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('a broker is reached by amqps, with the configured authority and client certificate, and not without them', async (t) => {
    const { queue } = await serveRequests(t, rabbit, [echo]);
    const { ca, server, client } = await certificates(t);
    // RabbitMQ behind TLS with client certificates.
    const { hostname, port } = new URL(rabbit.url);
    const front = createServer({ ...server, ca, requestCert: true, rejectUnauthorized: true }, (socket) => {
      const back = connectTcp(Number(port), hostname);
      socket.pipe(back).pipe(socket);
      for (const each of [socket, back]) each.on('error', () => each.destroy());
    });
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
    t.teardown(() => front.close());
    const { port: tlsPort } = front.address() as AddressInfo;
    const call = async (tls: { ca?: Buffer; key?: Buffer; cert?: Buffer } | undefined) => {
      const caller = new FleetManagerClient({
        urls: [`amqps://guest:guest@127.0.0.1:${tlsPort}`],
        queue,
        tls,
      });
      try {
        return await caller.call('echo', {
          parameters: { number: 5 },
          timeoutMs: tls?.cert === undefined ? 1_000 : 20_000,
        });
      } catch (error) {
        return error instanceof FleetManagerError ? error.code : String(error);
      } finally {
        await caller.close();
      }
    };
    t.deepEqual(await call({ ca, ...client }), { number: 5 });
    t.is(await call({ ca }), 'service_unavailable');
    t.is(await call(undefined), 'service_unavailable');
  });

  test('a client certificate is the login where the broker offers EXTERNAL, and the URL has no password or PLAIN is not offered', async (t) => {
    const { folder, ca, client } = await certificates(t);
    const own = { ca, ...client };
    const { tlsPort, port } = await brokerWithCertificates(t, { folder, ...own });
    const open = async (url: string, tls?: { ca: Buffer; cert?: Buffer; key?: Buffer }) => {
      const connection = await openConnection({ url }, { connect, tls, name: 'test', clock: systemClock });
      await connection.close(systemClock);
    };
    await t.notThrowsAsync(open(`amqps://127.0.0.1:${tlsPort}`, own));
    await t.notThrowsAsync(open(`amqps://user:Zqsecret@127.0.0.1:${tlsPort}`, own));
    await t.throwsAsync(open(`amqps://127.0.0.1:${tlsPort}`, { ca }), {
      message:
        'no login mechanism is shared: the broker offers EXTERNAL, AMQPLAIN, and this side can use PLAIN',
    });
    // A certificate is of no use without TLS.
    await t.throwsAsync(open(`amqp://127.0.0.1:${port}`, own), {
      message: /^no login mechanism is shared: the broker offers .*AMQPLAIN, and this side can use PLAIN$/,
    });
    const { lines, result } = await checkBrokers([{ url: `amqp://user:Zqsecret@127.0.0.1:${port}` }], {
      queue: 'fleet_manager',
      queueType: 'classic',
      tls: undefined,
      gateway: false,
      settings: 'AMQP_URL',
      limitMs: 60_000,
    });
    t.is(result, 'FAILED');
    t.regex(
      lines.join('\n'),
      /the broker offers .*AMQPLAIN, and this side can use PLAIN\n-> .*EXTERNAL.*AMQP_CERT_FILE/,
    );
  });

  test('the reason why the broker refuses a virtual host is that of the broker', async (t) => {
    const url = `${rabbit.url.replace(/\/$/, '')}/no_such_vhost`;
    await t.throwsAsync(openConnection({ url }, { connect, name: 'test', clock: systemClock }), {
      message: /^NOT_ALLOWED - .*vhost.*no_such_vhost/,
    });
  });
}
