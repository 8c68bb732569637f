import { systemClock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { untilAborted } from '../lib/until-aborted.js';
import { maskedUrl } from '../lib/masked-url.js';
import { ownUserOf } from '../rpc/own-user.js';
import { BrokerManagement, type ListedConnection } from './broker-management.js';
import { type BrokerCheckOptions, type BrokerToCheck, openBroker } from './check-brokers.js';
import { counted, type Finding, listed, ok, skipped, warned } from './finding.js';

export interface CallersCheckOptions extends Pick<BrokerCheckOptions, 'tls' | 'limitMs'> {
  /** Whether the brokers are those of an OpenAperture installation. */
  inInstallation: boolean;
  /** The URL of RabbitMQ's management plugin; undefined: it is not known. */
  managementUrl: string | undefined;
}

/** What was found: warnings make the finding a warning, notes do not. */
interface Found {
  notes: string[];
  warnings: string[];
}

/** The user that a new RabbitMQ has. */
const DEFAULT_USER = 'guest';
/** RabbitMQ believes any `user_id` of a user with this tag. */
const IMPERSONATOR = 'impersonator';
/** How the connections of a worker, of its gateway and of `doctor` are named. */
const OWN_NAME = /^fleet-manager(?:-gateway)? |^fleet-manager-doctor$/;
const CAN_NAME = 'and can name any caller';

/**
 * Checks whether the broker can tell callers from the service: whoever logs in with the service's user is believed when it names
 * another caller.
 */
export async function checkCallers(
  brokers: readonly BrokerToCheck[],
  options: CallersCheckOptions,
): Promise<Finding> {
  const { inInstallation, managementUrl, limitMs } = options;
  const own = await firstUser(brokers, options);
  if (own === undefined) return skipped('not checked: no broker can be used');
  const { broker, user } = own;
  const found = user === undefined ? unknownUser() : ofUser(user, inInstallation);
  if (managementUrl === undefined)
    found.notes.push(
      'not checked: who else logs in as this user, and which users can name others (the tag impersonator)',
      "-> to check it, set AMQP_MANAGEMENT_URL to RabbitMQ's management plugin",
    );
  else add(found, await fromManagement(managementUrl, broker.url, { user, limitMs }));
  const { notes, warnings } = found;
  return warnings.length > 0 ? warned([...warnings, ...notes]) : ok(...notes);
}

/** The user of the first broker that can be used; the user is undefined when it cannot be found out. */
async function firstUser(
  brokers: readonly BrokerToCheck[],
  { tls, limitMs }: Pick<CallersCheckOptions, 'tls' | 'limitMs'>,
): Promise<{ broker: BrokerToCheck; user: string | undefined } | undefined> {
  for (const broker of brokers) {
    const signal = AbortSignal.timeout(limitMs);
    try {
      const connection = await openBroker(broker, { tls }, signal);
      try {
        return { broker, user: await untilAborted(ownUserOf(connection, tls?.cert), signal) };
      } finally {
        await connection.close(systemClock);
      }
    } catch {
      // The check of the brokers reports it.
    }
  }
  return undefined;
}

function unknownUser(): Found {
  const warnings = [
    'the user of the service on the broker is not known, so callers whom the HTTP gateway names are anonymous',
    '-> let the user publish to the default exchange; with a client certificate, its CN must be the name of the user',
  ];
  return { notes: [], warnings };
}

function ofUser(user: string, inInstallation: boolean): Found {
  if (inInstallation)
    return {
      notes: [],
      warnings: [
        `the service logs in as ${user}, as all programs do to which the Manager gives this broker: each of them is this user for the service, ${CAN_NAME}`,
        '-> do not tell callers by their names there; a request with a record is known to come from the Manager',
      ],
    };
  if (user === DEFAULT_USER)
    return {
      notes: [],
      warnings: [
        `the service logs in as ${user}, the user that every RabbitMQ has: a caller that does so too is this user for the service, ${CAN_NAME}`,
        '-> give the service a user of its own, and each caller another one: rabbitmqctl add_user NAME',
      ],
    };
  return { notes: [`the service logs in as ${user}`], warnings: [] };
}

async function fromManagement(
  url: string,
  broker: string,
  { user, limitMs }: { user: string | undefined; limitMs: number },
): Promise<Found> {
  const management = new BrokerManagement(url, broker, AbortSignal.timeout(limitMs));
  const found: Found = { notes: [], warnings: [] };
  let isComplete = true;
  const unlessRefused = async (what: string, look: () => Promise<Found>): Promise<void> => {
    try {
      add(found, await look());
    } catch (error) {
      isComplete = false;
      found.notes.push(`not checked: ${what}: ${reasonOf(error)}`);
    }
  };
  if (user !== undefined)
    await unlessRefused('who else logs in as this user', async () =>
      sharing(user, await management.connections()),
    );
  await unlessRefused('which users can name others', async () =>
    impersonating(await management.usersWith(IMPERSONATOR)),
  );
  if (!isComplete) found.notes.push(remedyOf(url));
  return found;
}

function remedyOf(url: string): string {
  return `-> check AMQP_MANAGEMENT_URL, which is ${maskedUrl(url)}; its user needs the tag administrator to see users, and monitoring to see connections`;
}

function sharing(user: string, connections: readonly ListedConnection[]): Found {
  const others = connections.filter(
    (each) => each.user === user && !(each.name !== undefined && OWN_NAME.test(each.name)),
  );
  if (others.length === 0)
    return { notes: [`no other program has a connection as ${user} now`], warnings: [] };
  const names = [...new Set(others.map(({ name = 'one without a name', host }) => `${name} from ${host}`))];
  return {
    notes: [],
    warnings: [
      `other programs log in as ${user} too, ${CAN_NAME}: ${counted(others.length, 'connection')}: ${listed(names)}`,
      '-> give each program a user of its own: rabbitmqctl add_user NAME',
    ],
  };
}

function impersonating(users: readonly string[]): Found {
  if (users.length === 0) return { notes: [`no user has the tag ${IMPERSONATOR}`], warnings: [] };
  return {
    notes: [],
    warnings: [
      `the broker does not check the user_id of users with the tag ${IMPERSONATOR}, who can name any caller: ${listed(users)}`,
      '-> take the tag from those that need not name others: rabbitmqctl set_user_tags NAME, with the tags to keep',
    ],
  };
}

function add(found: Found, { notes, warnings }: Found): void {
  found.notes.push(...notes);
  found.warnings.push(...warnings);
}
