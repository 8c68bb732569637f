import { number, string } from 'yup';
import { HostPolicy } from '../network/connection-policy.js';
import { separated } from './setting.js';
import { reasonOf } from '../lib/errors.js';

/** Any text that is not empty, without surrounding spaces. */
export const text = () =>
  string()
    .typeError('${path} must be text')
    // Not trim(), which fails on a value that is no text.
    .transform((value: unknown) => (typeof value === 'string' ? value.trim() : value))
    .min(1, '${path} must not be empty');

export const count = (least: number, most: number) =>
  number()
    .typeError('${path} must be a whole number')
    .integer('${path} must be a whole number')
    .min(least, '${path} must be at least ${min}')
    .max(most, '${path} must be at most ${max}');

/** One of several words. */
export const choice = <Word extends string>(...words: Word[]) =>
  string().oneOf(words, `\${path} must be ${words.slice(0, -1).join(', ')} or ${words.at(-1)}`);

export const flag = () => choice('true', 'false');

export const httpUrl = () =>
  text()
    .test('http', '${path} must be an http:// or https:// URL', isHttpUrl)
    .test('open', '${path} must not hold a user name or password', holdsNoCredentials);

/** One or several URLs of brokers. */
export const amqpUrls = () =>
  text().test(
    'amqp',
    '${path} must be one or several amqp:// or amqps:// URLs, separated by commas; in a password, write , / @ as %2C %2F %40',
    (value) => value === undefined || (separated(value).length > 0 && separated(value).every(isAmqpUrl)),
  );

export const queueName = () =>
  text().matches(
    /^(?!amq\.)[^\s]{1,200}$/,
    '${path} must be the name of a queue, without spaces and not amq.*',
  );

/** Addresses, CIDR ranges and names of hosts. */
export const hosts = () =>
  text().test(
    'hosts',
    ({ path, value }: { path: string; value: string }) => `${path}: ${hostsProblem(value)}`,
    (value) => hostsProblem(value) === undefined,
  );

export const actionNames = () =>
  text().test(
    'some',
    '${path} must name actions, separated by commas',
    (value) => value === undefined || separated(value).length > 0,
  );

/** Where to listen; the largest port is checked with the problems between settings. */
export const portOrOff = () =>
  string().matches(/^(off|\d{1,5})$/, '${path} must be a port, 0 for a free one, or off');

function protocolOf(url: string): string {
  return URL.canParse(url) ? new URL(url).protocol : '';
}

function isAmqpUrl(url: string): boolean {
  if (!/^amqps?:\/\//.test(url) || !URL.canParse(url)) return false;
  // A `/`, `?` or `#` in a password ends the host early; the rest of the password would then be shown.
  const { host, pathname, search, hash } = new URL(url);
  return host !== '' && !`${pathname}${search}${hash}`.includes('@');
}

function isHttpUrl(value: string | undefined): boolean {
  return value === undefined || /^https?:$/.test(protocolOf(value));
}

function holdsNoCredentials(value: string | undefined): boolean {
  if (value === undefined || !URL.canParse(value)) return true;
  const { username, password } = new URL(value);
  return username === '' && password === '';
}

function hostsProblem(value: string | undefined): string | undefined {
  try {
    void new HostPolicy(value === undefined ? undefined : separated(value));
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}
