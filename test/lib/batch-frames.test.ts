import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { batchFrames } from '../../src/lib/batch-frames.js';

/** A socket that batches, the chunks that its system calls send, and all that its peer has received. */
async function open(t: ExecutionContext) {
  const received: Buffer[] = [];
  const server = createServer((peer) => peer.on('data', (chunk) => received.push(chunk))).listen(
    0,
    '127.0.0.1',
  );
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  const [[peer], socket] = await Promise.all([
    once(server, 'connection') as Promise<[Socket]>,
    connected(address.port),
  ]);
  t.teardown(() => {
    socket.destroy();
    peer.destroy();
    server.close();
  });
  const sent: number[] = [];
  const write: Socket['write'] = socket.write.bind(socket);
  socket.write = (...written: unknown[]): boolean => {
    sent.push((written[0] as Buffer).length);
    return Reflect.apply(write, socket, written);
  };
  batchFrames(socket);
  return { socket, peer, sent, received: () => Buffer.concat(received).toString() };
}

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

test('all frames of a turn are sent as one, in their order', async (t) => {
  const { socket, peer, sent, received } = await open(t);
  for (const frame of ['one', 'two', 'three']) socket.write(Buffer.from(frame));
  t.deepEqual(sent, []);
  await once(peer, 'data');
  t.deepEqual(sent, ['onetwothree'.length]);
  socket.write(Buffer.from('four'));
  await once(peer, 'data');
  t.is(received(), 'onetwothreefour');
});

test('what was written before the end is sent before it', async (t) => {
  const { socket, peer, received } = await open(t);
  socket.write(Buffer.from('one'));
  socket.write(Buffer.from('two'));
  socket.end();
  await once(peer, 'end');
  t.is(received(), 'onetwo');
});

test('a writer that is told to wait is told to go on', async (t) => {
  const { socket, sent } = await open(t);
  const large = Buffer.alloc(socket.writableHighWaterMark, 'a');
  t.true(socket.write(Buffer.from('one')));
  t.false(socket.write(large));
  await once(socket, 'drain');
  t.deepEqual(sent, [large.length + 3]);
  t.true(socket.write(Buffer.from('two')));
});

test('a writer that is told to wait again while it goes on is told to go on again', async (t) => {
  const { socket } = await open(t);
  const large = Buffer.alloc(socket.writableHighWaterMark, 'a');
  const refused: boolean[] = [];
  const write = () => refused.push(!socket.write(large));
  await new Promise<void>((resolve) => {
    socket.on('drain', () => (refused.length === 20 ? resolve() : write()));
    write();
  });
  t.deepEqual(refused, Array(20).fill(true));
});

test('a writer that waits for its own frame is called back when that is sent, after those before', async (t) => {
  const { socket, peer, received } = await open(t);
  socket.write(Buffer.from('one'));
  await new Promise((resolve) => socket.write(Buffer.from('two'), resolve));
  while (received() !== 'onetwo') await once(peer, 'data');
  t.pass();
});
