import { unescape } from 'node:querystring';
import { maskedUrl } from '../lib/masked-url.js';
import { credentials } from './patched-amqplib.js';

/** A broker to connect to. */
export interface BrokerAddress {
  /** `amqp://` or `amqps://`, with credentials. */
  url: string;
  /** False: used only while no preferred broker can be reached. */
  preferred?: boolean;
}

const HEARTBEAT_SECONDS = 20;

/**
 * The amqplib options for a login with the user name and password of a broker's URL. amqplib's own parsing decodes them
 * as Latin-1 instead of UTF-8, and ignores empty ones.
 * @returns no options when the URL has neither; amqplib then logs in as `guest`
 */
export function brokerLogin(url: string): { credentials?: ReturnType<typeof credentials.plain> } {
  const { username, password } = new URL(url);
  // The parsed URL does not distinguish empty credentials from missing ones.
  const has = username !== '' || password !== '' || /^\w+:\/\/[^/?#]*@/.test(url);
  return has ? { credentials: credentials.plain(unescape(username), unescape(password)) } : {};
}

/** The URL with a heartbeat interval, unless it has one. */
export function withHeartbeat(url: string): string {
  const parsed = new URL(url);
  if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', String(HEARTBEAT_SECONDS));
  return parsed.href;
}

/** A broker's address for logs, without anything that may be a secret; it need not be a valid URL. */
export function withoutCredentials(url: string): string {
  return maskedUrl(url).replace('***@', '').replace('?***', '');
}
