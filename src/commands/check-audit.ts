import { access, constants, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemClock } from '../lib/clock.js';
import { withoutCredentials } from '../rpc/broker-address.js';
import { ownUserOf } from '../rpc/own-user.js';
import { auditStreamOf, hasQueue } from '../rpc/queues.js';
import { missingConfigure } from './broker-permissions.js';
import { brokerRemedy, type BrokerCheckOptions, type BrokerToCheck, openBroker } from './check-brokers.js';
import { failed, type Finding, ok, runCheck, skipped } from './finding.js';

const LEAST_FREE_BYTES = 10 * 1024 * 1024;

/**
 * Checks whether audit lines can be written. Nothing is written.
 * @param target `stderr`, `stream`, or the path of a file
 * @param brokers empty: they are not known
 */
export async function checkAudit(
  target: string,
  brokers: readonly BrokerToCheck[],
  options: Pick<BrokerCheckOptions, 'queue' | 'tls' | 'settings' | 'limitMs'>,
): Promise<Finding> {
  if (target === 'stderr') return ok('its lines go to standard error, with the log');
  if (target === 'stream') return checkStreams(brokers, options);
  return runCheck(
    options.limitMs,
    () => `let the user of the service write to ${target}, or set AUDIT to another file`,
    async () => checkFile(target),
  );
}

async function checkFile(path: string): Promise<Finding> {
  const folder = dirname(path);
  const existing = await stat(path).catch(() => undefined);
  if (existing === undefined) await access(folder, constants.W_OK);
  else if (!existing.isFile()) throw new Error(`${path} is not a file`);
  else await access(path, constants.W_OK);
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < LEAST_FREE_BYTES)
    return failed(
      `the disk of ${folder} is full: no line can be added`,
      'free some space, or set AUDIT to a file on another disk',
    );
  return ok(`lines can be appended to ${path}`);
}

async function checkStreams(
  brokers: readonly BrokerToCheck[],
  options: Parameters<typeof checkAudit>[2],
): Promise<Finding> {
  if (brokers.length === 0) return skipped('not checked: the brokers are not known');
  const findings = await Promise.all(brokers.map(async (broker) => checkStream(broker, options)));
  return {
    result: findings.some(({ result }) => result === 'FAILED') ? 'FAILED' : 'ok',
    lines: findings.flatMap(({ lines }) => lines),
  };
}

async function checkStream(
  broker: BrokerToCheck,
  { queue, tls, settings, limitMs }: Parameters<typeof checkAudit>[2],
): Promise<Finding> {
  const stream = auditStreamOf(queue);
  const finding = await runCheck(
    limitMs,
    (error) => brokerRemedy(error, settings),
    async (signal) => {
      const connection = await openBroker(broker, { tls }, signal);
      try {
        if ((await ownUserOf(connection, tls?.cert)) === undefined)
          return failed(
            'the broker accepts no message in the name of its user, so that nobody could tell who has written a line',
            `check that the user in ${settings}, or in the client certificate, is the one that the broker logs in`,
          );
        if (await hasQueue(connection, stream)) return ok(`the stream ${stream} exists`);
        const refusal = await missingConfigure(connection, stream);
        if (refusal !== undefined)
          return failed(refusal, `create the stream, or let the user configure ${stream}`);
        return ok(`the stream ${stream} does not exist yet; the service will create it`);
      } finally {
        await connection.close(systemClock);
      }
    },
  );
  const [first = '', ...more] = finding.lines;
  return { ...finding, lines: [`${withoutCredentials(broker.url)}: ${first}`, ...more] };
}
