import { isIP } from 'node:net';

const URL_PARTS = /^\s*([a-z][a-z0-9+.-]*:\/\/)(?:(.*)@)?([^@/?#]*)([^@?#]*)([^@]*)$/is;
const HOST_AND_PORT = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?$/i;
const BROKER_PORTS = new Set([undefined, '5671', '5672']);
/** An etcd token, such as in a whole discovery URL. */
const TOKEN_IN_PATH = /[0-9a-f]{32,}/gi;

/**
 * A URL for logs and people, without anything that may be a secret: user, password, query, fragment and tokens in its path
 * become `***`. It need not be valid: of a text whose parts cannot be told apart nothing is shown.
 */
export function maskedUrl(url: string): string {
  const [, scheme, credentials, authority = '', path = '', rest = ''] = URL_PARTS.exec(url) ?? [];
  if (scheme === undefined) return '***';
  const [, host, port] = HOST_AND_PORT.exec(authority) ?? [];
  // What follows the @ may be the rest of a query.
  if (host === undefined || (credentials !== undefined && /[?#]/.test(credentials))) return `${scheme}***`;
  const isBroker = /^amqps?:/i.test(scheme);
  // In `amqp://user:12345` the host was forgotten, and what looks like the port is the password.
  const mayBeLogin = isBroker && credentials === undefined && !BROKER_PORTS.has(port) && !isSurelyHost(host);
  if (mayBeLogin) return `${scheme}${host}:***`;
  const shownPath = path.replace(TOKEN_IN_PATH, '***');
  return `${scheme}${credentials === undefined ? '' : '***@'}${authority}${shownPath}${rest === '' ? '' : '?***'}`;
}

/** A text for logs and people that should not be a URL. One that may be a URL is masked like one. */
export function maskedIfUrl(text: string): string {
  const mayBeUrl = text.includes('://') || isInOrder(text, ':', '@') || isInOrder(text, '?', '=');
  return mayBeUrl ? maskedUrl(text) : text;
}

function isInOrder(text: string, first: string, last: string): boolean {
  const at = text.indexOf(first);
  return at >= 0 && text.lastIndexOf(last) > at;
}

function isSurelyHost(host: string): boolean {
  return host === 'localhost' || isIP(host.replace(/^\[|\]$/g, '')) !== 0;
}
