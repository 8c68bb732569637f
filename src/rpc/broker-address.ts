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

/** A broker that is silent for two of these is taken for lost. */
const HEARTBEAT_SECONDS = 10;

/** The user, and the password, with which amqplib logs in by default. */
const GUEST = 'guest';

/** A SASL mechanism with its credentials, for amqplib. */
export type Login = ReturnType<typeof credentials.plain> | ReturnType<typeof credentials.external>;

/**
 * The logins to try at a broker, in this order: PLAIN with the user name and password of its URL, and EXTERNAL, by which
 * the broker takes the user name from the client's certificate. Without credentials in the URL, EXTERNAL is first, and PLAIN
 * is that of `guest`.
 * @param hasCertificate whether a client certificate is configured; it is used for amqps only
 */
export function brokerLogins(url: string, hasCertificate: boolean): [Login, ...Login[]] {
  const { protocol, username, password } = new URL(url);
  const external = hasCertificate && protocol === 'amqps:' ? [credentials.external()] : [];
  // The parsed URL does not distinguish empty credentials from missing ones.
  const has = username !== '' || password !== '' || /^\w+:\/\/[^/?#]*@/.test(url);
  // amqplib's own parsing decodes them as Latin-1 instead of UTF-8, and ignores empty ones.
  if (has) return [credentials.plain(unescape(username), unescape(password)), ...external];
  const guest = credentials.plain(GUEST, GUEST);
  const [first] = external;
  return first === undefined ? [guest] : [first, guest];
}

/** The user name of a broker's URL, or the one that is used without one; with a certificate the broker may know another. */
export function userOf(url: string): string {
  return unescape(new URL(url).username) || GUEST;
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
