import test, { type ExecutionContext } from 'ava';
import { ManagerError } from '../../src/openaperture/manager-error.js';
import { RecordCaller } from '../../src/openaperture/record-caller.js';
import { eventually } from '../support/eventually.js';
import { notAborted, openManager } from './open-manager.js';

const RECORD = /^\/messaging\/rpc_requests\/\d+$/;

async function openCaller(t: ExecutionContext) {
  const opened = await openManager(t);
  const caller = new RecordCaller({ manager: opened.client, clock: opened.clock });
  return { ...opened, caller };
}

test('a caller makes a record, polls it until it has the reply, and deletes it', async (t) => {
  const { manager, caller, clock } = await openCaller(t);
  const requestBody = { etcd_token: 'token', action: 'list_units', action_parameters: null };
  const id = await caller.create(requestBody, notAborted());
  t.deepEqual(manager.calls.at(-1)?.body, {
    queue_name: '',
    id: null,
    status: 'not_started',
    request_body: requestBody,
    response_body: null,
  });
  const polled = caller.poll(id, notAborted());
  for (const status of ['not_started', 'in_progress', 'completed']) {
    manager.addRecord(id, { status, requestBody, responseBody: [1] });
    const asked = manager.callsTo(RECORD).length;
    if (status !== 'not_started') clock.advance(1_000);
    await eventually('it is polled', () => manager.callsTo(RECORD).length > asked || clock.pending > 0);
    if (status !== 'completed') await eventually('it waits for the next poll', () => clock.pending === 1);
  }
  t.deepEqual(await polled, { status: 'completed', requestBody, responseBody: [1] });
  await caller.delete(id, notAborted());
  t.is(manager.records.size, 0);
});

test('an error is a reply too', async (t) => {
  const { manager, caller } = await openCaller(t);
  manager.addRecord(5, { status: 'error', responseBody: { errors: ['no'], code: 'internal' } });
  t.like(await caller.poll(5, notAborted()), {
    status: 'error',
    responseBody: { errors: ['no'], code: 'internal' },
  });
});

test('a record is polled once a second', async (t) => {
  const { manager, caller, clock } = await openCaller(t);
  manager.addRecord(5);
  const leaving = new AbortController();
  const polled = caller.poll(5, { signal: leaving.signal });
  await eventually('it waits', () => clock.pending === 1);
  clock.advance(999);
  t.is(clock.pending, 1);
  clock.advance(1);
  await eventually('it polls', () => manager.callsTo(RECORD).length === 2);
  leaving.abort(new Error('enough'));
  await t.throwsAsync(polled, { message: 'enough' });
  t.is(clock.pending, 0);
});

test('polling continues while the Manager is down', async (t) => {
  const { manager, caller, until, whileTimePasses } = await openCaller(t);
  manager.addRecord(5);
  await manager.down();
  const polled = caller.poll(5, notAborted());
  await until('nothing', () => true);
  await manager.up();
  const end = manager.fail({ status: 503, path: RECORD });
  await until('it has been asked in vain', () => manager.callsTo(RECORD).length > 6);
  end();
  manager.addRecord(5, { status: 'completed', responseBody: 'done' });
  t.like(await whileTimePasses(polled), { responseBody: 'done' });
});

for (const [what, fault] of [
  ['refuses every token', { status: 401 }],
  ['redirects', { status: 302, headers: { location: '/' } }],
  ["is stood in for by a proxy's page", { status: 200, body: '<html>We are back soon</html>' }],
  ["is stood in for by a proxy's page with 404", { status: 404, body: '404 page not found\n' }],
  ["is stood in for by a proxy's page with 403", { status: 403, body: '<html>403 Forbidden</html>' }],
  ['cuts the connection', {}],
] as const) {
  test(`polling continues while the Manager ${what}`, async (t) => {
    const { manager, caller, until, whileTimePasses } = await openCaller(t);
    manager.addRecord(5);
    const end = manager.fail({ ...fault, path: RECORD });
    const polled = caller.poll(5, notAborted());
    await until('it has been asked in vain', () => manager.callsTo(RECORD).length > 6);
    end();
    manager.addRecord(5, { status: 'completed', responseBody: 'done' });
    t.like(await whileTimePasses(polled), { responseBody: 'done' });
  });
}

test('polling ends when the record is deleted, or the Manager refuses the request for good', async (t) => {
  const { manager, caller } = await openCaller(t);
  const fails = async (kind: string) => {
    const error = await t.throwsAsync(caller.poll(5, notAborted()), { instanceOf: ManagerError });
    t.is(error?.kind, kind as ManagerError['kind']);
  };
  await fails('not_found');
  manager.addRecord(5, { status: 'completed' });
  manager.fail({ status: 400, path: RECORD });
  await fails('failed');
});

test('a failure to make a record is an error, and the call is not repeated', async (t) => {
  const { manager, caller, whileTimePasses } = await openCaller(t);
  manager.fail({ status: 500, path: /rpc_requests/ });
  const error = await t.throwsAsync(whileTimePasses(caller.create({}, notAborted())), {
    instanceOf: ManagerError,
  });
  t.is(error?.kind, 'failed');
  t.is(manager.callsTo(/rpc_requests/).length, 1);
});

test('deleting a record that does not exist is not an error', async (t) => {
  const { caller } = await openCaller(t);
  await t.notThrowsAsync(caller.delete(5, notAborted()));
});
