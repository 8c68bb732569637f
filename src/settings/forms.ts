import { number, string } from 'yup';
import { HostPolicy } from '../network/connection-policy.js';
import { type Form, type GivenValue, separated } from './setting.js';
import { reasonOf } from '../lib/errors.js';

/** A form that is made when a value is checked: most settings are not set, and making every form takes long. */
function form<Given extends GivenValue>(make: () => Form<Given>): Form<Given> {
  return {
    label: (name) => ({
      validateSync: (...checked) =>
        make()
          .label(name)
          .validateSync(...checked),
    }),
  };
}

const someText = () => string().typeError('${path} must be a string').min(1, '${path} must not be empty');

/** Any text that is not empty. */
export const text = () => form(someText);

export const count = (least: number, most: number) =>
  form(() =>
    number()
      // yup would read `4 0` as 40.
      .transform((value: unknown, original: unknown) =>
        typeof original === 'string' && /\s/.test(original) ? Number.NaN : value,
      )
      .typeError('${path} must be a whole number')
      .integer('${path} must be a whole number')
      .min(least, '${path} must be at least ${min}')
      .max(most, '${path} must be at most ${max}'),
  );

/** One of these words. */
export const choice = <Word extends string>(...words: Word[]) =>
  form(() => string().oneOf(words, `\${path} must be ${words.slice(0, -1).join(', ')} or ${words.at(-1)}`));

export const flag = () => choice('true', 'false');

export const httpUrl = () =>
  form(() =>
    someText().test(
      'http',
      ({ path, value }: { path: string; value: string }) => `${path} ${httpProblem(value)}`,
      (value) => value === undefined || httpProblem(value) === undefined,
    ),
  );

/** One or several URLs, separated by commas. */
export const httpUrls = () =>
  form(() =>
    someText().test(
      'http',
      ({ path, value }: { path: string; value: string }) => `${path} ${httpUrlsProblem(value)}`,
      (value) => value === undefined || httpUrlsProblem(value) === undefined,
    ),
  );

/** An HTTP URL that may have a user and a password. */
export const loginUrl = () =>
  form(() =>
    someText().test(
      'login',
      '${path} must be an http:// or https:// URL, such as http://user:password@host:15672; in a user name or password, percent-encode , / ? # % @ as %2C %2F %3F %23 %25 %40',
      (value) => value === undefined || (ONE_LOGIN.test(value) && /^https?:$/.test(protocolOf(value))),
    ),
  );

/** What the query of a broker's URL can set, with the least and the most that AMQP and the service can work with. */
const TUNING = { heartbeat: [1, 3_600], channelMax: [4, 65_535], frameMax: [4_096, 131_072] } as const;

/** One or several URLs of brokers. */
export const amqpUrls = () =>
  form(() =>
    someText()
      .test(
        'amqp',
        '${path} must be one or more amqp:// or amqps:// URLs, such as amqp://user:password@host:5672, separated by commas; in a user name or password, percent-encode , / ? # % @ as %2C %2F %3F %23 %25 %40',
        (value) => value === undefined || (separated(value).length > 0 && separated(value).every(isAmqpUrl)),
      )
      .test(
        'options',
        ({ path, value }: { path: string; value: string }) => `${path} ${tuningProblem(value)}`,
        (value) => value === undefined || tuningProblem(value) === undefined,
      ),
  );

/** The name of its error queue is longer, and may have 255 bytes. */
const MAX_QUEUE_BYTES = 200;

export const queueName = () =>
  form(() =>
    someText()
      .matches(/^(?!amq\.)[^\s]+$/, '${path} must be the name of a queue, without spaces and not amq.*')
      .test('bytes', `\${path} must have at most ${MAX_QUEUE_BYTES} bytes`, hasAtMost(MAX_QUEUE_BYTES)),
  );

/** The name is sent to the broker, with other data of at most 64 KiB. */
const MAX_NAME_BYTES = 1_024;

export const workerName = () =>
  form(() =>
    someText().test('bytes', `\${path} must have at most ${MAX_NAME_BYTES} bytes`, hasAtMost(MAX_NAME_BYTES)),
  );

/** A value for an HTTP header. */
export const token = (least: number) =>
  form(() =>
    someText()
      .min(least, `\${path} must have at least ${least} characters`)
      .matches(/^[\x20-\x7e]+$/, '${path} must be printable ASCII'),
  );

/** The address or name of a host. */
export const host = () =>
  form(() => someText().matches(/^[\w.:%-]+$/, '${path} must be an address or the name of a host'));

/** Addresses, CIDR ranges and names of hosts. */
export const hosts = () =>
  form(() =>
    someText().test(
      'hosts',
      ({ path, value }: { path: string; value: string }) => `${path}: ${hostsProblem(value)}`,
      (value) => hostsProblem(value) === undefined,
    ),
  );

export const actionNames = () =>
  form(() =>
    someText().test(
      'some',
      '${path} must name actions, separated by commas',
      (value) => value === undefined || separated(value).length > 0,
    ),
  );

/** The names of npm packages (https://docs.npmjs.com/cli/configuring-npm/package-json#name). */
const PACKAGE_NAME = /^(?=.{1,214}$)(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/;

export const packageNames = () =>
  form(() =>
    someText().test(
      'names',
      '${path} must be names of npm packages, such as @acme/fleet-actions, separated by commas; for a folder use PLUGIN_PATHS',
      (value) =>
        value === undefined ||
        (separated(value).length > 0 && separated(value).every((each) => PACKAGE_NAME.test(each))),
    ),
  );

/** Where audit lines go: a word, or the path of a file, which has a `/`, so that a mistyped word is no file. */
export const auditTarget = () =>
  form(() =>
    string().matches(
      /^(?:off|stderr|stream|.*\/.*[^/])$/,
      '${path} must be off, stderr, stream, or the path of a file, such as /var/log/fleet-manager/audit.jsonl',
    ),
  );

/** A port to listen on, or `off`. `problemsBetween` checks that the port is not too large. */
export const portOrOff = () =>
  form(() => string().matches(/^(off|\d{1,5})$/, '${path} must be a port number, 0 for a free port, or off'));

/** A port to listen on, `off`, or `gateway` for that of the HTTP gateway. `problemsBetween` checks that the port is not too large. */
export const portOrGateway = () =>
  form(() =>
    string().matches(
      /^(off|gateway|\d{1,5})$/,
      '${path} must be a port number, 0 for a free port, gateway or off',
    ),
  );

function hasAtMost(bytes: number): (value: string | undefined) => boolean {
  return (value) => value === undefined || Buffer.byteLength(value) <= bytes;
}

function protocolOf(url: string): string {
  return URL.canParse(url) ? new URL(url).protocol : '';
}

/**
 * With one `@` at most, which ends the user name and password: with an `@`, `/`, `?` or `#` in the password, the rest of it
 * could be read as the host or the path, and be shown. A `%` that encodes nothing shows that nothing was encoded.
 */
const ONE_LOGIN = /^(?:amqp|http)s?:\/\/(?:(?:[^@/?#%]|%[0-9a-fA-F]{2})*@)?[^@/?#]+(?:[/?#][^@]*)?$/;

function isAmqpUrl(url: string): boolean {
  return ONE_LOGIN.test(url) && /^amqps?:$/.test(protocolOf(url)) && new URL(url).host !== '';
}

/** amqplib fails at each connection, and not at the start, when it cannot use one of these. */
function tuningProblem(urls: string): string | undefined {
  const queries = separated(urls).flatMap((url) => (isAmqpUrl(url) ? [new URL(url).searchParams] : []));
  for (const [name, [least, most]] of Object.entries(TUNING)) {
    const given = queries.flatMap((query) => query.getAll(name));
    if (!given.every((each) => /^\d{1,6}$/.test(each) && Number(each) >= least && Number(each) <= most))
      return `has a ${name} that is not a whole number from ${least} to ${most}`;
  }
  return undefined;
}

function httpProblem(url: string): string | undefined {
  // Not only before a `/`: with a `/` in a password, its rest is read as the path.
  if (/^https?:.*@/.test(url))
    return 'must not contain a user name or password; elsewhere, write an @ as %40';
  return /^https?:$/.test(protocolOf(url)) ? undefined : 'must be an http:// or https:// URL';
}

function httpUrlsProblem(urls: string): string | undefined {
  const each = separated(urls);
  if (each.length === 0) return httpProblem(urls);
  return each.map(httpProblem).find((problem) => problem !== undefined);
}

function hostsProblem(value: string | undefined): string | undefined {
  try {
    void new HostPolicy(value === undefined ? undefined : separated(value));
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}
