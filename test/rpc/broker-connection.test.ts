import test from 'ava';
import { systemClock } from '../../src/lib/clock.js';
import { openConnection } from '../../src/rpc/open-connection.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { faultyLink } from '../support/faulty-link.js';

for (const broker of brokers()) {
  test(`${broker.name}: a probe ends when its connection is lost while its channel is closed`, async (t) => {
    const link = faultyLink(broker);
    const connection = await openConnection(
      { url: broker.url },
      { connect: link.connect, name: 'test', clock: systemClock },
    );
    t.teardown(async () => connection.close(systemClock));
    t.is(await connection.probe(async () => (link.cut(), 'asked')), 'asked');
    await eventually('the loss is seen', () => connection.lost.aborted);
  });
}
