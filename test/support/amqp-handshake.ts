import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

/** How a client logs in, as read from the first frames of a connection. */
export interface Login {
  user: string;
  password: string;
  virtualHost: string;
}

interface Answers {
  /** The mechanisms that it offers, separated by spaces. */
  mechanisms?: string;
  /** Why it refuses the virtual host; without it, it says nothing. */
  refusal?: string;
  /** Why it refuses the login. */
  loginRefusal?: string;
}

/**
 * Acts as a broker until the client has sent its virtual host (AMQP 0-9-1, 2.2.4), then
 * disconnects.
 */
export async function listenForLogins(
  t: ExecutionContext,
  answers: Answers = {},
): Promise<{ port: number; logins: Login[] }> {
  const logins: Login[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    void handshake(socket, answers).then((login) => logins.push(login));
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, logins };
}

async function handshake(
  socket: Socket,
  { mechanisms = 'PLAIN', refusal, loginRefusal }: Answers,
): Promise<Login> {
  let read = Buffer.alloc(0);
  const take = async (bytes: number): Promise<Buffer> => {
    while (read.length < bytes) read = Buffer.concat([read, (await once(socket, 'data'))[0] as Buffer]);
    const taken = read.subarray(0, bytes);
    read = read.subarray(bytes);
    return taken;
  };
  /** The arguments in the frame of a method. */
  const method = async (): Promise<Buffer> => {
    const head = await take(7);
    const payload = await take(head.readUInt32BE(3) + 1);
    return payload.subarray(4, -1);
  };
  await take(8);
  // connection.start: version 0-9, no properties, mechanisms and locales.
  socket.write(frame(10, Buffer.from([0, 9, 0, 0, 0, 0]), longText(mechanisms), longText('en_US')));
  const startOk = await method();
  const afterProperties = startOk.subarray(4 + startOk.readUInt32BE(0));
  const afterMechanism = afterProperties.subarray(1 + afterProperties.readUInt8(0));
  const response = afterMechanism.subarray(4, 4 + afterMechanism.readUInt32BE(0));
  const [, user = '', password = ''] = response.toString('utf8').split('\0');
  const login = { user, password, virtualHost: '' };
  if (loginRefusal !== undefined) {
    socket.write(closing(403, loginRefusal));
    return login;
  }
  // connection.tune: no limits, no heartbeats.
  socket.write(frame(30, Buffer.alloc(8)));
  await method();
  const open = await method();
  const virtualHost = open.subarray(1, 1 + open.readUInt8(0)).toString('utf8');
  if (refusal === undefined) socket.destroy();
  else socket.write(closing(530, refusal));
  return { ...login, virtualHost };
}

/** A frame of a method of the class `connection`. */
function frame(method: number, ...content: readonly Buffer[]): Buffer {
  const payload = Buffer.concat([Buffer.from([0, 10, 0, method]), ...content]);
  const head = Buffer.from([1, 0, 0, 0, 0, 0, 0]);
  head.writeUInt32BE(payload.length, 3);
  return Buffer.concat([head, payload, Buffer.from([0xce])]);
}

/** connection.close: a code, a text, and no method. */
function closing(code: number, text: string): Buffer {
  const reason = Buffer.from(text);
  return frame(50, Buffer.from([code >> 8, code & 0xff, reason.length]), reason, Buffer.alloc(4));
}

function longText(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, Buffer.from(text)]);
}
