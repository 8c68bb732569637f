import { unescape } from 'node:querystring';
import { credentials } from './amqp.js';

/** A broker to connect to. */
export interface BrokerAddress {
  /** `amqp://` or `amqps://`, credentials included. */
  url: string;
  /** False: used only while no preferred broker can be reached. */
  preferred?: boolean;
}

const HEARTBEAT_SECONDS = 20;

/**
 * Options for amqplib, so that it logs in with the user and the password of a broker's URL. Without them it reads both as
 * Latin-1, where URLs are UTF-8, and ignores empty ones.
 * @returns nothing when the URL has neither; amqplib logs in as `guest` then
 */
export function brokerLogin(url: string): { credentials?: ReturnType<typeof credentials.plain> } {
  const { username, password } = new URL(url);
  // The URL parser does not distinguish an empty user and password from none.
  const has = username !== '' || password !== '' || /^\w+:\/\/[^/?#]*@/.test(url);
  return has ? { credentials: credentials.plain(unescape(username), unescape(password)) } : {};
}

/** The URL with a heartbeat interval, unless it has one. */
export function withHeartbeat(url: string): string {
  const parsed = new URL(url);
  if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', String(HEARTBEAT_SECONDS));
  return parsed.href;
}

/** A broker's address without its credentials, for logs. */
export function withoutCredentials(url: string): string {
  if (!URL.canParse(url)) return '(not a URL)';
  const parsed = new URL(url);
  return `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
}
