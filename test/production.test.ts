import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { auditStreamOf } from '../src/rpc/queues.js';
import { type Ended, runCli } from './commands/cli-process.js';
import { eventually } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { type OwnBroker, startOwnBroker } from './support/own-broker.js';
import { secretIn } from './support/planted-secrets.js';
import { RawCaller } from './support/requests.js';
import { folder } from './support/settings.js';
import type { Worker } from './support/worker.js';
import { type Audited, auditedOf, auditLines, checkAudit } from './production/check-audit.js';
import { checkLog } from './production/check-log.js';
import { checkMetrics } from './production/check-metrics.js';
import { checkTraces } from './production/check-traces.js';
import { type Entry, isAdmitted, isDenied } from './production/ledger.js';
import { openSenders } from './production/open-senders.js';
import { BROKEN_POLICY, partOfLoad, POLICIES, USERS } from './production/load.js';
import { addUsers, type Logins, MORE_SECRETS, openWorld, type World } from './production/world.js';

// The service as it runs in production, with all that watches it: what callers sent and got is in its metrics, its audit, its log and
// its traces, one by one, and no secret is.
const isPossible =
  (process.env.RABBITMQ_URL ?? noteSkipped('the service in production', 'RABBITMQ_URL')) !== undefined;

/** How often a worker has logged this. */
function told({ lines }: Worker, phrase: string): number {
  return lines.filter(({ message }) => message === phrase).length;
}

/** Lets the workers read their files again. */
function reload(workers: readonly Worker[]): void {
  for (const worker of workers) worker.process.kill('SIGHUP');
}

async function stopped(t: ExecutionContext, workers: readonly Worker[]): Promise<void> {
  for (const worker of workers) worker.process.kill('SIGTERM');
  for (const worker of workers) t.is(await worker.ended, 0);
}

/** Runs a command with the settings of the service. */
async function command(t: ExecutionContext, world: World, ...args: string[]): Promise<Ended> {
  const ended = await runCli(t, args, { env: { ...world.env, ...MORE_SECRETS } });
  t.is(secretIn(`${ended.stdout}\n${ended.stderr}`), undefined, args.join(' '));
  return ended;
}

if (isPossible) {
  let broker: OwnBroker;
  let logins: Logins;
  let remove: () => Promise<void>;

  test.before(async () => {
    ({ broker, remove } = await startOwnBroker());
    logins = await addUsers(broker);
  });

  test.after.always(async () => remove?.());

  test('what callers sent and got adds up to the metrics, the audit, the log and the traces, also while the policy changes', async (t) => {
    const world = await openWorld(t, logins);
    const settings = { AUDIT: 'stream', AUDIT_READS: 'false' };
    const workers = await Promise.all(
      ['worker1', 'worker2'].map(async (HOSTNAME) => world.serve({ ...settings, HOSTNAME })),
    );
    const { ledger, send } = await openSenders(t, { logins, world, workers });
    let part = 0;
    const load = () => partOfLoad({ ...world, part: part++ });
    const both = async (phrase: string, times: number) =>
      eventually(phrase, () => workers.every((worker) => told(worker, phrase) >= times));

    await send(load(), 'old');
    // One that is broken changes nothing.
    await world.writePolicy(BROKEN_POLICY);
    const during = send(load(), 'old');
    reload(workers);
    await both('policy refused', 1);
    await during;
    // At the signal.
    const before = send(load(), 'old', 'new');
    await world.writePolicy(POLICIES.new);
    reload(workers);
    const after = send(load(), 'old', 'new');
    await both('policy reloaded', 1);
    await send(load(), 'new');
    await Promise.all([before, after]);
    // By the change alone.
    await world.writePolicy(POLICIES.old);
    const meanwhile = send(load(), 'old', 'new');
    await both('policy reloaded', 2);
    await send(load(), 'old');
    await meanwhile;

    await checkMetrics(t, ledger, { world, workers });
    const { spans } = world.collector;
    const ended = () => spans.filter(({ name }) => name === `process ${world.queue}`).length;
    await eventually('their spans have come', () => ended() >= ledger.handled.length);
    await stopped(t, workers);
    const runs = await world.runs();
    const audited = auditedOf(ledger, runs);
    const begunChanges = audited.filter((entry) => !isDenied(entry) && !entry.mayBeMissing);
    const hasBegun = (entry: Entry) =>
      entry.got !== 'timeout' || runs.includes(`${String(entry.action)} ${entry.id}`);
    checkLog(
      t,
      workers.flatMap(({ lines }) => lines),
      { ledger, begunChanges },
    );
    checkTraces(t, spans, { ledger, queue: world.queue, hasBegun });

    await forgeLines(world, logins);
    await checkHistory(t, world, audited);
    await checkCommands(t, world);
    t.true(ledger.handled.filter(isAdmitted).length > 150);
  });

  test('an audit in a file has the same lines, also when it is renamed under load', async (t) => {
    const world = await openWorld(t, logins);
    const path = join(await folder(t), 'audit.jsonl');
    const worker = await world.serve({ AUDIT: path });
    const { ledger, send } = await openSenders(t, { logins, world, workers: [worker] });
    const first = send(partOfLoad({ ...world, part: 0 }), 'old');
    await rename(path, `${path}.1`);
    worker.process.kill('SIGHUP');
    await send(partOfLoad({ ...world, part: 1 }), 'old');
    await first;
    await checkMetrics(t, ledger, { world, workers: [worker] });
    await stopped(t, [worker]);
    const text = (await readFile(`${path}.1`, 'utf8')) + (await readFile(path, 'utf8'));
    t.is(secretIn(text), undefined);
    checkAudit(t, auditLines(text), auditedOf(ledger, await world.runs()));
  });

  for (const [how, ending] of [
    ['throw', 1],
    ['exit', 1],
    ['block', 'SIGKILL'],
  ] as const)
    test(`a worker that a plugin ends (${how}) tells no secret`, async (t) => {
      const world = await openWorld(t, logins);
      const worker = await world.serve({
        ...MORE_SECRETS,
        PLUGIN_PATHS: world.env.PLUGIN_PATHS?.replace('plugins', 'crash-plugins') ?? '',
        // Longer than a busy machine takes to load the service.
        WATCHDOG_SECONDS: '10',
        SHUTDOWN_GRACE_SECONDS: '0',
        POLICY_FILE: '',
      });
      const caller = await RawCaller.open(t, broker, world.queue);
      caller.send({ action: 'crash', action_parameters: { how, pepper: world.secret } });
      t.is(await worker.ended, ending);
      const report = { throw: 'uncaught', exit: 'process ended unexpectedly', block: 'event loop blocked' }[
        how
      ];
      const line = worker.lines.find(({ message }) => String(message).includes(report));
      t.regex(JSON.stringify(line), /crash/);
      t.is(secretIn(JSON.stringify(worker.lines)), undefined);
    });
}

/** Publishes lines into the audit as other users, who may write to every queue. */
async function forgeLines({ queue }: World, { callers }: Logins): Promise<void> {
  for (const [name, user] of callers) {
    const connection = await user.open();
    const channel = await connection.createConfirmChannel();
    const line = {
      time: new Date().toISOString(),
      event: 'settled',
      id: 'forged',
      caller: 'ops',
      action: 'rotate',
    };
    for (const properties of [{}, { userId: name }])
      channel.sendToQueue(auditStreamOf(queue), Buffer.from(JSON.stringify(line)), properties);
    await channel.waitForConfirms();
    await connection.close();
  }
}

/** Checks what `history` prints of these requests, all and filtered. */
async function checkHistory(t: ExecutionContext, world: World, audited: readonly Audited[]): Promise<void> {
  const { named, byToken, unknown } = world;
  const ofNamed = ({ cluster }: Entry) => cluster?.hash === named.hash;
  const filters: [args: string[], matches: (entry: Entry) => boolean][] = [
    [[], () => true],
    [['--caller', 'web-team'], ({ caller }) => caller.name === 'web-team'],
    [
      ['--caller', 'ops', '--action', 'rotate'],
      (entry) => entry.caller.name === 'ops' && entry.action === 'rotate',
    ],
    [['--cluster', named.sent], ofNamed],
    [['--cluster', byToken.sent, '--caller', 'ci'], (entry) => ofNamed(entry) && entry.caller.name === 'ci'],
    [['--cluster', unknown.hash], ({ cluster }) => cluster?.hash === unknown.hash],
    [['--caller', 'somebody'], () => false],
  ];
  const printed = await Promise.all(
    filters.map(async ([args]) => command(t, world, 'history', '--json', ...args)),
  );
  for (const [index, { stdout, stderr, code }] of printed.entries()) {
    const matches = filters[index]?.[1] ?? (() => false);
    t.is(code, 0, stderr);
    t.regex(stderr, new RegExp(`^${2 * USERS.length} lines left out that the service has not written`, 'm'));
    checkAudit(t, auditLines(stdout), audited.filter(matches));
  }
}

/** Runs the commands whose output must have no secret. */
async function checkCommands(t: ExecutionContext, world: World): Promise<void> {
  const listed = await command(t, world, 'errors', 'list', '--json');
  const { messages }: { messages: { id: string }[] } = JSON.parse(listed.stdout);
  t.true(messages.length > 0);
  // In turn: while one looks at the messages, another one does not see them.
  for (const { id } of messages.slice(0, 3)) t.is((await command(t, world, 'errors', 'show', id)).code, 0);
  for (const name of ['list', 'export']) t.not((await command(t, world, 'errors', name)).stdout, '');
  const token = world.byToken.sent;
  const commands = [
    ['config'],
    ['config', '--json'],
    ['doctor', '--cluster', token],
    ['history'],
    [
      'policy',
      'check',
      '--caller',
      'web-team',
      '--action',
      'set_units',
      '--cluster',
      token,
      '--unit',
      'db.service',
    ],
  ];
  await Promise.all(
    commands.map(async (args) => t.not((await command(t, world, ...args)).stdout, '', args.join(' '))),
  );
}
