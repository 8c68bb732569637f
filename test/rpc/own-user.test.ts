import { execFile } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { promisify } from 'node:util';
import type { ChannelModel } from 'amqplib';
import test from 'ava';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { ownUserOf } from '../../src/rpc/own-user.js';
import { settle } from '../support/open-runner.js';

/** A certificate with this subject, PEM. */
async function certificateOf(subject: string): Promise<Buffer> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', '/dev/null'];
  const { stdout } = await promisify(execFile)('openssl', ['req', '-x509', ...key, '-subj', subject]);
  return Buffer.from(stdout);
}

/** A connection to this URL, whose broker closes a channel for a message that names another user than this one. */
function connectionOf(url: string, user: string, fault?: Error): BrokerConnection {
  const createChannel = async () => {
    let refusal: Error | undefined;
    return Object.assign(new EventEmitter(), {
      publish: (exchange: string, _: string, __: Buffer, { userId }: { userId: string }) => {
        if (exchange !== '') refusal = Object.assign(new Error('NOT_FOUND - no exchange'), { code: 404 });
        else if (userId !== user)
          refusal = Object.assign(new Error('PRECONDITION_FAILED - user_id property'), { code: 406 });
        return true;
      },
      prefetch: async () => {
        await settle();
        if (fault !== undefined || refusal !== undefined) throw fault ?? refusal;
      },
      close: async () => {},
    });
  };
  const model = Object.assign(new EventEmitter(), { connection: {}, createChannel });
  return new BrokerConnection(model as unknown as ChannelModel, { url });
}

test('the own user is the one of the URL, guest without one, or the one whom the certificate names', async (t) => {
  const cert = await certificateOf('/O=CN=nobody/OU=CN=none/CN=worker 1');
  const userOf = async (url: string, user: string, given?: Buffer) =>
    ownUserOf(connectionOf(url, user), given);
  t.is(await userOf('amqp://j%C3%BCrgen:Zqsecret@broker', 'jürgen'), 'jürgen');
  t.is(await userOf('amqp://broker', 'guest'), 'guest');
  t.is(await userOf('amqps://user:Zqsecret@broker', 'user', cert), 'user');
  t.is(await userOf('amqps://broker', 'worker 1', cert), 'worker 1');
  t.is(await userOf('amqps://broker', 'another', cert), undefined);
  t.is(await userOf('amqp://broker', 'another'), undefined);
});

test('a certificate that names nobody names no user', async (t) => {
  const cert = await certificateOf('/O=CN=nobody');
  t.is(await ownUserOf(connectionOf('amqps://broker', 'nobody'), cert), undefined);
});

test('a fault that is no refusal says nothing about the user', async (t) => {
  const connection = connectionOf('amqp://broker', 'guest', new Error('cut'));
  await t.throwsAsync(ownUserOf(connection), { message: 'cut' });
});
