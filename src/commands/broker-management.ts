import { unescape } from 'node:querystring';
import { fieldsOf } from '../lib/fields-of.js';
import { reasonOf } from '../lib/errors.js';

/** A connection to the broker. */
export interface ListedConnection {
  user: string;
  /** The name that the program gave it; undefined: none. */
  name: string | undefined;
  /** The address of the program. */
  host: string;
}

function loginOf({ username, password }: URL): string | undefined {
  return username === '' ? undefined : `${unescape(username)}:${unescape(password)}`;
}

/** The HTTP API of RabbitMQ's management plugin, as far as `doctor` reads it. */
export class BrokerManagement {
  readonly #base: URL;
  readonly #authorization: string;
  readonly #signal: AbortSignal;

  /**
   * @param url that of the plugin, with or without a login
   * @param broker the URL of the broker, whose login is used when that has none
   */
  constructor(url: string, broker: string, signal: AbortSignal) {
    const base = new URL(url.endsWith('/') ? url : `${url}/`);
    const login = loginOf(base) ?? loginOf(new URL(broker)) ?? 'guest:guest';
    this.#authorization = `Basic ${Buffer.from(login).toString('base64')}`;
    base.username = '';
    base.password = '';
    this.#base = base;
    this.#signal = signal;
  }

  /**
   * The names of the users with this tag.
   * @throws Error that says why they cannot be listed; only an administrator may
   */
  async usersWith(tag: string): Promise<string[]> {
    return (await this.#list('api/users?columns=name,tags')).flatMap((each) => {
      const { name, tags } = fieldsOf(each);
      // A text with commas before RabbitMQ 3.9.
      const all: unknown[] = Array.isArray(tags) ? tags : String(tags).split(',');
      return all.includes(tag) ? [String(name)] : [];
    });
  }

  /**
   * The connections that the login may see: its own, or all with the tag `monitoring`.
   * @throws Error that says why they cannot be listed
   */
  async connections(): Promise<ListedConnection[]> {
    const columns = 'user,user_provided_name,peer_host';
    return (await this.#list(`api/connections?columns=${columns}`)).map((each) => {
      const { user, user_provided_name: name, peer_host: host } = fieldsOf(each);
      return {
        user: String(user),
        name: typeof name === 'string' && name !== '' ? name : undefined,
        host: String(host),
      };
    });
  }

  async #list(path: string): Promise<unknown[]> {
    const headers = { authorization: this.#authorization };
    const url = new URL(path, this.#base);
    const response = await fetch(url, { headers, redirect: 'manual', signal: this.#signal }).catch(
      (error: unknown) => {
        throw new Error(reasonOf(error instanceof Error && error.cause ? error.cause : error));
      },
    );
    const body: unknown = await response.json().catch(() => undefined);
    if (response.status === 200 && Array.isArray(body)) return body;
    const { reason } = fieldsOf(body);
    throw new Error(
      response.status === 200
        ? 'its response is not a list'
        : `HTTP ${response.status}${typeof reason === 'string' ? `: ${reason.slice(0, 200)}` : ''}`,
    );
  }
}
