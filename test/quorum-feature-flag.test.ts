import { randomUUID } from 'node:crypto';
import test from 'ava';
import { startService } from '../src/composition.js';
import { examine, isFailure } from './commands/examine.js';
import { rabbitmq } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { logLines } from './support/log-lines.js';
import { ownBroker } from './support/own-broker.js';
import { REACHES_NOTHING, serving } from './support/settings.js';

/** A RabbitMQ without any feature flag, as after an upgrade of an old one. */
const NO_FLAGS = { advanced: '[{rabbit, [{forced_feature_flags_on_init, []}]}].' };
const REASON = /feature flag is disabled \(enable it with `rabbitmqctl enable_feature_flag quorum_queue`/;

if (rabbitmq() !== undefined)
  test('a broker without quorum queues is told by doctor, the log and /readyz, and used when it has them', async (t) => {
    const broker = await ownBroker(t, [], NO_FLAGS);
    const settings = { AMQP_URL: broker.url, QUEUE_NAME: `queue_${randomUUID()}`, ...REACHES_NOTHING };
    const quorum = { ...settings, QUEUE_TYPE: 'quorum' };
    isFailure(t, await examine(quorum), 'broker', REASON);
    // Classic queues need no flag.
    t.is((await examine(settings)).of('broker').result, 'ok');

    const logs = logLines();
    const service = await startService({
      configuration: serving({ ...quorum, SHUTDOWN_GRACE_SECONDS: '0' }),
      log: logs.log,
    });
    t.teardown(async () => service.stop());
    const readiness = async () => {
      const response = await fetch(`${service.httpUrl}/readyz`);
      return { status: response.status, text: await response.text() };
    };
    const { status } = await eventually('it says why it is not ready', async () => {
      const told = await readiness();
      return REASON.test(told.text) ? told : undefined;
    });
    t.is(status, 503);
    t.regex(String(logs.find(/^broker connection lost$/)[0]?.reason), REASON);

    await broker.ctl('enable_feature_flag', 'quorum_queue');
    await eventually('it is ready', async () => (await readiness()).status === 200);
    t.is((await examine(quorum)).of('broker').result, 'ok');
  });
