import { unescape } from 'node:querystring';
import { credentials } from './amqp.js';

/**
 * What is added to amqplib's options so that it logs in with the user and the password of a broker's URL. By itself it
 * reads them as Latin-1, where URLs are UTF-8, and takes empty ones for none.
 * @returns nothing when the URL has neither; amqplib logs in as `guest` then
 */
export function brokerLogin(url: string): { credentials?: ReturnType<typeof credentials.plain> } {
  const { username, password } = new URL(url);
  // The parser drops the sign that tells empty ones from none.
  const has = username !== '' || password !== '' || /^\w+:\/\/[^/?#]*@/.test(url);
  return has ? { credentials: credentials.plain(unescape(username), unescape(password)) } : {};
}
