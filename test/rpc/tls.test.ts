import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import { echo } from '../support/actions.js';
import { rabbitmq } from '../support/brokers.js';
import { serveRequests } from '../support/requests.js';

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
    ca: await read('ca.pem'),
    server: { key: await read('server.key'), cert: await read('server.pem') },
    client: { key: await read('client.key'), cert: await read('client.pem') },
  };
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
}
