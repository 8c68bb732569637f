import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { type CallersCheckOptions, checkCallers } from '../../src/commands/check-callers.js';
import { FleetManagerClient } from '../../src/client/client.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';
import { inRepository } from '../support/repository.js';
import { serveRequests } from '../support/requests.js';

interface Context {
  broker: OwnBroker;
  /** Its management plugin, without a login. */
  management: string;
  remove: () => Promise<void>;
}

const test = anyTest as TestFn<Context>;

/** Checks the callers of one broker. */
async function check({ url }: Pick<TestBroker, 'url'>, options: Partial<CallersCheckOptions> = {}) {
  const all = {
    tls: undefined,
    limitMs: HUNG_MS,
    inInstallation: false,
    managementUrl: undefined,
    ...options,
  };
  const { result, lines } = await checkCallers([{ url }], all);
  return { result, said: lines.join('\n') };
}

async function freePort(): Promise<string> {
  return (await promisify(execFile)(inRepository('scripts/free-port'))).stdout.trim();
}

/** Gives a user these tags. */
async function tag({ context: { broker } }: ExecutionContext<Context>, name: string, tags: string) {
  await broker.eval(`rabbit_auth_backend_internal:set_tags(<<"${name}">>, [${tags}], <<"test">>)`);
}

/** The URL of the management plugin with the login of its administrator. */
function asAdministrator({ context: { management } }: ExecutionContext<Context>): string {
  return management.replace('//', '//guest:guest@');
}

test('without a broker nothing is said of callers', async (t) => {
  t.deepEqual(await check({ url: 'amqp://127.0.0.1:1' }), {
    result: 'skipped',
    said: 'not checked: no broker can be used',
  });
});

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    const port = await freePort();
    const settings = ['management.tcp.ip = 127.0.0.1', `management.tcp.port = ${port}`];
    const started = await startOwnBroker(settings, { plugins: ['rabbitmq_management'] });
    const management = `http://127.0.0.1:${port}`;
    await eventually('the plugin responds', async () => (await fetch(management).catch(() => undefined))?.ok);
    Object.assign(t.context, { ...started, management });
  });
  test.after.always(async (t) => t.context.remove?.());

  test('RabbitMQ: a service that logs in as guest shares its user, and so does a module of an installation', async (t) => {
    const { broker } = t.context;
    const guest = await check(broker);
    t.is(guest.result, 'warning');
    t.regex(guest.said, /^the service logs in as guest, .* can name any caller\n-> give the service a user/);
    const user = await broker.user('module', {});
    const shared = await check(user, { inInstallation: true });
    t.is(shared.result, 'warning');
    t.regex(
      shared.said,
      /^the service logs in as module, as all programs do .* can name any caller\n-> do not/,
    );
  });

  test('RabbitMQ: without its management plugin, what is not checked is said, and how to check it', async (t) => {
    const { result, said } = await check(await t.context.broker.user('unseen', {}));
    t.is(result, 'ok');
    t.regex(said, /^the service logs in as unseen\nnot checked: .*impersonator\)\n-> .*AMQP_MANAGEMENT_URL/);
  });

  test('RabbitMQ: a service whose user is not known is told', async (t) => {
    const user = await t.context.broker.user('silent', { write: '^$' });
    const { result, said } = await check(user);
    t.is(result, 'warning');
    t.regex(said, /^the user of the service on the broker is not known, .* are anonymous\n-> let the user/);
  });

  test('RabbitMQ: the programs that share the user of the service are named, and its own are not', async (t) => {
    const user = await t.context.broker.user('worker', {});
    const managementUrl = asAdministrator(t);
    const look = async () => check(user, { managementUrl });
    // The plugin lists the connection of an earlier check for a while.
    t.regex(
      (await look()).said,
      /^the service logs in as worker\nno other program has a connection as worker/,
    );
    const { queue } = await serveRequests(t, user, []);
    const client = new FleetManagerClient({ urls: [user.url], queue });
    t.teardown(async () => client.close());
    const unnamed = await user.open();
    t.teardown(async () => unnamed.close());
    const found = await eventually('they are listed', async () => {
      const each = await look();
      return /fleet-manager-client/.test(each.said) && /without a name/.test(each.said) ? each : undefined;
    });
    t.is(found.result, 'warning');
    t.regex(found.said, /^other programs log in as worker too, and can name any caller: \d connections: /);
    t.regex(found.said, /\bfleet-manager-client from 127\.0\.0\.1\b/);
    t.regex(found.said, /\bone without a name from 127\.0\.0\.1\b/);
    t.false(/doctor/.test(found.said));
  });

  test('RabbitMQ: the users whose user_id proves nothing are named', async (t) => {
    const user = await t.context.broker.user('checked', {});
    await t.context.broker.user('anybody', {});
    const managementUrl = asAdministrator(t);
    t.regex((await check(user, { managementUrl })).said, /^no user has the tag impersonator$/m);
    await tag(t, 'anybody', 'impersonator, monitoring');
    const { result, said } = await check(user, { managementUrl });
    t.is(result, 'warning');
    t.regex(said, /tag impersonator, who can name any caller: anybody\n-> take the tag/);
  });

  test('RabbitMQ: what the login may not see is said, with the tags that it needs', async (t) => {
    const { broker, management: managementUrl } = t.context;
    const user = await broker.user('plain', {});
    const none = await check(user, { managementUrl });
    t.is(none.result, 'ok');
    t.regex(none.said, /^not checked: who else logs in as this user: HTTP 401/m);
    t.regex(none.said, /^not checked: which users can name others: HTTP 401.*\n-> .*tag administrator/m);
    await tag(t, 'plain', 'management');
    const own = await check(user, { managementUrl });
    t.regex(own.said, /^no other program has a connection as plain now$/m, 'it may see its own connections');
    t.regex(own.said, /^not checked: which users can name others: HTTP 401: Not administrator user$/m);
    t.false(own.said.includes('secret'));
  });

  test('RabbitMQ: a management plugin that does not respond is told with its address, without its login', async (t) => {
    const address = `127.0.0.1:${await freePort()}`;
    const managementUrl = `http://someone:Zqsecret@${address}/base`;
    const wrong = await check(t.context.broker, { managementUrl });
    t.true(
      wrong.said.includes(`not checked: who else logs in as this user: connect ECONNREFUSED ${address}\n`),
    );
    t.true(wrong.said.includes(`\n-> check AMQP_MANAGEMENT_URL, which is http://***@${address}/base; `));
    t.false(wrong.said.includes('Zq'));
  });
}
