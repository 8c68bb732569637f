import type { Socket } from 'node:net';
import ssh2, { type AnyAuthMethod, type Client, type ClientChannel } from 'ssh2';
import { ActionError } from '../api/action-error.js';
import type { Clock } from '../lib/clock.js';
import type { HostKeyCheck } from './host-keys.js';
import { connectionLost, hostUnreachable, loginRefused } from './ssh-errors.js';

/** How long a server may take to close its side after the disconnect message, in milliseconds. */
const GOODBYE_MS = 2_000;

/** A host that disappears without a message is noticed after four of these, in milliseconds. */
const KEEPALIVE_MS = 10_000;

/** The command was not sent: no channel was opened. */
export class CommandNotSent extends Error {
  /** `refused`: the server allows no further channel. `closed`: the connection is lost. */
  readonly why: 'refused' | 'closed';

  constructor(why: 'refused' | 'closed', cause: unknown) {
    super('no SSH channel was opened', { cause });
    this.why = why;
  }
}

export interface HandshakeOptions {
  /** The host as the caller names it, for errors. */
  host: string;
  user: string;
  /** Login methods, tried in turn. */
  login: AnyAuthMethod[];
  hostKey: HostKeyCheck;
  /** From the connected socket to the login, in milliseconds; also the limit for opening a channel. */
  handshakeTimeoutMs: number;
  clock: Clock;
  signal: AbortSignal;
}

/** One SSH connection, logged in. */
export class SshConnection {
  /** Resolves when the connection is closed by either side. */
  readonly closed: Promise<void>;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #options: HandshakeOptions;
  #open = true;

  private constructor(client: Client, socket: Socket, options: HandshakeOptions) {
    this.#client = client;
    this.#socket = socket;
    this.#options = options;
    this.closed = new Promise((resolve) => {
      client.once('close', () => {
        this.#open = false;
        resolve();
      });
    });
  }

  /**
   * Makes a connected socket an SSH connection, or destroys it. Throws `host_key_refused`, `login_refused`,
   * `host_unreachable`; the signal's reason when that is aborted.
   */
  static async handshake(socket: Socket, options: HandshakeOptions): Promise<SshConnection> {
    const client = new ssh2.Client();
    const connection = new SshConnection(client, socket, options);
    try {
      await logIn(client, socket, options);
      return connection;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  get open(): boolean {
    return this.#open;
  }

  /**
   * Opens a channel and starts a command on it. Throws `CommandNotSent` when the command cannot have begun; an
   * `ActionError` when the server refused it, or when it is unknown whether it began.
   */
  exec(command: string): Promise<ClientChannel> {
    const { host, clock, handshakeTimeoutMs } = this.#options;
    return new Promise((resolve, reject) => {
      if (!this.#open) {
        reject(new CommandNotSent('closed', undefined));
        return;
      }
      const cancelTimeout = clock.after(handshakeTimeoutMs, () => this.destroy());
      try {
        this.#client.exec(command, (error, channel) => {
          cancelTimeout();
          if (error === undefined) resolve(channel);
          else reject(this.#execFailure(host, error));
        });
      } catch (cause) {
        cancelTimeout();
        this.destroy();
        reject(new CommandNotSent('closed', cause));
      }
    });
  }

  /** Calls back when the connection is closed. Returns a function that cancels this. */
  onClosed(callback: () => void): () => void {
    if (this.#open) this.#client.once('close', callback);
    else queueMicrotask(callback);
    return () => void this.#client.off('close', callback);
  }

  /** Sends the disconnect message and closes. */
  end(): void {
    this.#client.end();
    const cancel = this.#options.clock.after(GOODBYE_MS, () => this.destroy());
    void this.closed.then(cancel);
  }

  /** Closes immediately. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** The stage in which ssh2's exec failed (ssh2 1.17, lib/client.js: openChannel, reqExec). */
  #execFailure(host: string, error: Error): Error {
    if ('reason' in error) return new CommandNotSent('refused', error);
    if (error.message === 'No response from server') return new CommandNotSent('closed', error);
    if (!this.#open) return connectionLost(host);
    return new ActionError('command_failed', `${host} refused to run a command`, {
      details: { host, exitStatus: null, signal: null, stderr: '' },
      cause: error,
    });
  }
}

/** Resolves after the login and, for a new host, when its key has been recorded. */
function logIn(client: Client, socket: Socket, options: HandshakeOptions): Promise<void> {
  const { host, user, hostKey, signal } = options;
  return new Promise((resolve, reject) => {
    let refused: Error | undefined;
    let shownKey: Buffer | undefined;
    let proven = false;
    let remembered: Promise<void> | undefined;

    const settle = (act: () => void) => {
      signal.removeEventListener('abort', abort);
      act();
    };
    const fail = (error: unknown) => settle(() => reject(error));
    const abort = () => fail(signal.reason);
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });

    // Kept for the connection's whole life: ssh2 may still emit errors after the end.
    client.on('error', (error) => {
      // An agent that does not answer only removes one login method.
      if (error.level === 'agent') return;
      fail(refused ?? failure(error));
    });
    client.once('close', () => fail(refused ?? hostUnreachable(host, 'handshake_failed')));
    client.once('handshake', () => {
      // Only now has the host proven that it owns the key.
      proven = true;
      remembered = shownKey && hostKey.remember(shownKey);
      remembered?.catch(fail);
    });
    client.once('ready', () => {
      Promise.resolve(remembered).then(() => settle(resolve), fail);
    });

    const failure = (error: Error & { level?: string }): Error => {
      if (error.level === 'client-timeout') return hostUnreachable(host, 'handshake_timeout', error);
      if (error.level === 'client-authentication') return loginRefused(host, user, error);
      // Not reported as changed: the host may be new, or sign only with SHA-1 (RFC 8332).
      if (error.message.includes('no matching host key')) return hostKey.refusal('no_accepted_type');
      // The server disconnected during the login: too many attempts, or no such user.
      if (proven && 'code' in error && typeof error.code === 'number') {
        return loginRefused(host, user, error);
      }
      return hostUnreachable(host, 'handshake_failed', error);
    };

    try {
      client.connect({
        sock: socket,
        username: user,
        authHandler: [...options.login],
        algorithms: { serverHostKey: hostKey.algorithms },
        // ssh2 accepts any key if this function returns a promise: it must return undefined.
        hostVerifier: (key: Buffer, verify: (accepted: boolean) => void): void => {
          // Called again when the keys of a long connection are renewed.
          shownKey = Buffer.from(key);
          const reason = hostKey.judge(shownKey);
          if (reason !== undefined) refused = hostKey.refusal(reason, shownKey);
          verify(reason === undefined);
        },
        readyTimeout: options.handshakeTimeoutMs,
        keepaliveInterval: KEEPALIVE_MS,
      });
    } catch (error) {
      fail(hostUnreachable(host, 'handshake_failed', error));
    }
  });
}
