import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { connect } from '../../src/rpc/patched-amqplib.js';
import type { TestBroker } from './brokers.js';
import { eventually } from './eventually.js';
import { noteImpossible } from './note-skipped.js';
import { planted } from './planted-secrets.js';
import { inRepository } from './repository.js';

/** A separate RabbitMQ, which a test can stop, start and manage. */
export interface OwnBroker extends TestBroker {
  port: number;
  /** Its folder, for `scripts/rabbitmqctl`. */
  directory: string;
  /** That of each user whom `user` adds. */
  password: string;
  /** Starts it (again); resolves when it serves. Durable objects are kept. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Runs `rabbitmqctl`, which takes seconds on a busy machine. @returns its output */
  ctl(...args: string[]): Promise<string>;
  /** Evaluates an Erlang expression in the broker. @returns its value, as Erlang prints it */
  eval(expression: string): Promise<string>;
  /** Raises the memory alarm, which blocks all that publish, or ends it. */
  alarm(on: boolean): Promise<void>;
  /** Closes all connections by force. */
  closeConnections(): Promise<void>;
  /**
   * Adds or changes a user with these permissions, as regular expressions; resolves when they are in effect: RabbitMQ's
   * channels remember the earlier ones until they are idle.
   * @returns the broker, with its login
   */
  user(name: string, permissions: { configure?: string; write?: string; read?: string }): Promise<TestBroker>;
}

const run = promisify(execFile);

/** Starts one that goes with the test. */
export async function ownBroker(
  t: ExecutionContext,
  settings: readonly string[] = [],
  options: OwnBrokerOptions = {},
): Promise<OwnBroker> {
  const { broker, remove } = await startOwnBroker(settings, options);
  t.teardown(remove);
  return broker;
}

/** What a broker of one's own may have besides lines of `rabbitmq.conf`. */
export interface OwnBrokerOptions {
  /** Erlang terms of `advanced.config`. */
  advanced?: string;
  /** The folder of another RabbitMQ, as `newerRabbitmq` returns it; `ctl` does not work with it. */
  root?: string;
  /** Plugins of RabbitMQ to enable. */
  plugins?: readonly string[];
}

/** The folder of a RabbitMQ that is newer than the installed one; undefined, and reported, where it cannot run. */
export async function newerRabbitmq(): Promise<string | undefined> {
  try {
    return (await run(inRepository('scripts/newer-rabbitmq'), ['folder'])).stdout.trim();
  } catch (error) {
    const { code, stderr } = fieldsOf(error);
    if (code !== 77 && process.env.REQUIRE_SERVICES === '1') throw error;
    noteImpossible('the tests over a newer RabbitMQ', String(stderr).trim());
    return undefined;
  }
}

/** Starts one for several tests. @param settings lines of `rabbitmq.conf` */
export async function startOwnBroker(
  settings: readonly string[] = [],
  { advanced, root, plugins = [] }: OwnBrokerOptions = {},
): Promise<{ broker: OwnBroker; remove: () => Promise<void> }> {
  const directory = await mkdtemp(join(process.env.SERVERS_FOLDER ?? tmpdir(), 'rabbitmq-'));
  await mkdir(join(directory, 'conf.d'));
  await writeFile(join(directory, 'conf.d/10.conf'), settings.map((line) => `${line}\n`).join(''));
  if (advanced !== undefined) await writeFile(join(directory, 'advanced.config'), advanced);
  await writeFile(join(directory, 'enabled_plugins'), `[${plugins.join(', ')}].\n`);
  const port = Number((await run(inRepository('scripts/free-port'))).stdout);
  /** Of the users that tests add. */
  const password = planted('broker-password');
  const urlOf = (login: string) => `amqp://${login}@127.0.0.1:${port}`;
  const brokerOf = (name: string, url: string): TestBroker => ({
    name,
    url,
    connect,
    open: async () => connect(url, { noDelay: true }),
  });
  let end = async (_signal: 'SIGTERM' | 'SIGKILL') => {};
  const start = async () => {
    const args = [directory, String(port), ...(root === undefined ? [] : [root])];
    const rabbitmq = spawn(inRepository('scripts/rabbitmq'), args, { stdio: 'ignore' });
    const exited = once(rabbitmq, 'exit');
    end = async (signal) => {
      rabbitmq.kill(signal);
      await exited;
    };
    const ended = exited.then(() => {
      throw new Error('RabbitMQ ended instead of starting');
    });
    ended.catch(() => {});
    await Promise.race([ended, eventually('RabbitMQ serves', () => serves(urlOf('guest:guest')))]);
  };
  const ctl = async (...args: string[]) =>
    (await run(inRepository('scripts/rabbitmqctl'), [directory, ...args])).stdout;
  const evaluate = async (expression: string): Promise<string> => {
    const value = await eventually('RabbitMQ has evaluated it', async () => {
      try {
        return (await run(inRepository('scripts/rabbitmq-eval'), [directory, expression])).stdout;
      } catch (error) {
        // A busy broker takes long to accept it: nothing was evaluated.
        if (String(error).includes('failed to connect to node')) return undefined;
        throw error;
      }
    });
    return value.trim().replace(/^\{ok, (.*)\}$/s, '$1');
  };
  const user: OwnBroker['user'] = async (name, { configure = '.*', write = '.*', read = '.*' }) => {
    const [login, ...permissions] = [name, configure, write, read].map(binary);
    await evaluate(
      `case rabbit_auth_backend_internal:exists(${login}) of true -> ok; false -> rabbit_auth_backend_internal:add_user(${login}, ${binary(password)}, <<"test">>) end, ` +
        `rabbit_auth_backend_internal:set_permissions(${login}, <<"/">>, ${permissions.join(', ')}, <<"test">>)`,
    );
    const forgotten = `lists:all(fun({P, I}) -> proplists:get_value(user, I) =/= ${login} orelse process_info(P, current_function) =:= {current_function, {erlang, hibernate, 3}} end, ets:tab2list(channel_created))`;
    await eventually('its channels are idle', async () => (await evaluate(forgotten)) === 'true');
    return brokerOf(name, urlOf(`${name}:${password}`));
  };
  const broker = {
    ...brokerOf('own RabbitMQ', urlOf('guest:guest')),
    port,
    directory,
    password,
    start,
    stop: () => end('SIGTERM'),
    ctl,
    eval: evaluate,
    alarm: async (on: boolean) =>
      void (await evaluate(`vm_memory_monitor:set_vm_memory_high_watermark(${on ? '0.000001' : '0.4'})`)),
    closeConnections: async () => {
      // One may end by itself meanwhile.
      const close = '(catch rabbit_networking:close_connection(Pid, <<"closed by the test">>))';
      await evaluate(`[${close} || Pid <- rabbit_networking:connections()], ok`);
    },
    user,
  };
  await start();
  return {
    broker,
    remove: async () => {
      // Killed: its data is removed anyway.
      await end('SIGKILL');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A text as an Erlang binary. */
function binary(text: string): string {
  return `<<${JSON.stringify(text)}>>`;
}

async function serves(url: string): Promise<boolean> {
  return connect(url).then(
    async (connection) => connection.close().then(() => true),
    () => false,
  );
}
