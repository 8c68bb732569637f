import { randomUUID } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import type { OwnBroker } from './own-broker.js';

/** A queue on this broker that confirms nothing, such as a quorum queue without its majority, until the test ends. */
export async function stuckQueue(t: ExecutionContext, broker: OwnBroker): Promise<string> {
  const name = `stuck_${randomUUID()}`;
  const connection = await broker.open();
  await (await connection.createChannel()).assertQueue(name);
  await connection.close();
  await tellQueue(broker, name, 'suspend');
  t.teardown(async () => {
    await tellQueue(broker, name, 'resume');
    await broker.ctl('delete_queue', name);
  });
  return name;
}

/** Suspends or resumes the process of a queue in the broker. */
export async function tellQueue(broker: OwnBroker, name: string, what: 'suspend' | 'resume'): Promise<void> {
  const lookup = `rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"${name}">>))`;
  await broker.eval(`{ok, Q} = ${lookup}, sys:${what}(amqqueue:get_pid(Q))`);
}
