import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'ava';
import { useUpFiles } from '../support/without-files.js';
import { startGateway } from './open-gateway.js';

if (process.platform === 'linux') {
  test('a first request that finds no file descriptor left fails, and the next one is answered', async (t) => {
    const { url, port, logs } = await startGateway(t);
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    const giveBack = useUpFiles(t);
    socket.write('GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n');
    t.regex(String((await once(socket, 'data'))[0]), /^HTTP\/1\.1 500 [^]*"code":"internal"/);
    t.is(logs.find(/^HTTP request failed unexpectedly$/).length, 1);
    giveBack();
    const response = await fetch(`${url}/livez`);
    t.is(response.status, 200);
    await response.text();
  });
}
