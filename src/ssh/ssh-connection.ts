import type { Socket } from 'node:net';
import type { AnyAuthMethod, Client, ClientChannel } from 'ssh2';
import { ActionError } from '../api/action-error.js';
import type { Clock } from '../lib/clock.js';
import type { HostKeyCheck } from './host-keys.js';
import { whenUsed } from '../lib/when-used.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import { connectionLost, hostUnreachable, loginEnded, loginRefused } from './ssh-errors.js';

const loadSsh2 = whenUsed('ssh2');

/** How long a server may take to close the connection after our disconnect message, in milliseconds. */
const DISCONNECT_MS = 2_000;

/** The host is asked for a sign of life this often, in milliseconds. */
const KEEPALIVE_MS = 3_000;

/** After more intervals than this without any data from the host, the connection is lost: 12 s by default. */
const SILENT_INTERVALS = 3;

/** A connection that was not used for so long may be broken without a sign of it, in milliseconds. */
const UNCERTAIN_AFTER_MS = 1_000;

/** How long a host may take to answer on such a connection, in milliseconds. A new connection takes little longer. */
const ANSWER_MS = 2_000;

/** The command was not sent: no channel was opened. */
export class CommandNotSent extends Error {
  /** `refused`: the server allows no further channel. `closed`: the connection is closed. */
  readonly why: 'refused' | 'closed';

  constructor(why: 'refused' | 'closed', cause: unknown) {
    super('no SSH channel was opened', { cause });
    this.why = why;
  }
}

export interface HandshakeOptions {
  /** The host as the caller wrote it, for errors. */
  host: string;
  user: string;
  /** The authentication methods, tried in this order. */
  login: AnyAuthMethod[];
  hostKey: HostKeyCheck;
  /** The time limit from the connected socket to the login, and for opening a channel, in milliseconds. */
  handshakeTimeoutMs: number;
  /** The keepalive interval, in milliseconds; 3 s by default. It is real time, as it depends on the network. */
  keepaliveMs?: number;
  clock: Clock;
  signal: AbortSignal;
}

/** An SSH connection after the login. */
export class SshConnection {
  /** Resolves when the connection is closed, by either side. */
  readonly closed: Promise<void>;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #options: HandshakeOptions;
  #open = true;
  /** The number of channels that are open or being opened. */
  #channels = 0;
  /** When a channel was last closed, by the clock. */
  #unusedSince: number;

  private constructor(client: Client, socket: Socket, options: HandshakeOptions) {
    this.#client = client;
    this.#socket = socket;
    this.#options = options;
    this.#unusedSince = options.clock.now();
    this.closed = new Promise((resolve) => {
      client.once('close', () => {
        this.#open = false;
        resolve();
      });
    });
  }

  /**
   * Opens an SSH connection on a connected socket; destroys the socket on failure. Throws `host_key_refused`,
   * `login_refused`, `host_unreachable`; the signal's reason when the signal is aborted.
   */
  static async handshake(socket: Socket, options: HandshakeOptions): Promise<SshConnection> {
    const { host, clock, handshakeTimeoutMs: ms, signal } = options;
    const reason = () => hostUnreachable(host, 'handshake_timeout');
    try {
      const { Client } = loadSsh2();
      const client = new Client();
      const connection = new SshConnection(client, socket, options);
      await runWithin({ ms, clock, reason, signal }, (limited) =>
        untilAborted(logIn(client, socket, options), limited),
      );
      connection.#watch();
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
   * Opens a channel and starts a command on it. Throws `CommandNotSent` when the command has certainly not started; an
   * `ActionError` when the server refused the command, or when it is unknown whether it started.
   */
  exec(command: string): Promise<ClientChannel> {
    const { host, clock, handshakeTimeoutMs } = this.#options;
    return new Promise((resolve, reject) => {
      const cancelTimeout = clock.after(handshakeTimeoutMs, () => this.destroy());
      const cancelAnswer = this.#requireAnswer();
      this.#channels += 1;
      const closed = () => {
        this.#channels -= 1;
        this.#unusedSince = clock.now();
      };
      const settle = (act: () => void) => {
        cancelTimeout();
        cancelAnswer();
        act();
      };
      const fail = (error: unknown) =>
        settle(() => {
          closed();
          reject(error);
        });
      try {
        this.#client.exec(command, (error, channel) => {
          if (error !== undefined) return fail(this.#execFailure(host, error));
          channel.once('close', closed);
          settle(() => resolve(channel));
        });
      } catch (cause) {
        fail(new CommandNotSent('closed', cause));
      }
    });
  }

  /** Calls back when the connection is closed. @returns cancels the callback */
  onClosed(callback: () => void): () => void {
    if (this.#open) this.#client.once('close', callback);
    else queueMicrotask(callback);
    return () => void this.#client.off('close', callback);
  }

  /** Sends a disconnect message and closes the connection. */
  end(): void {
    this.#client.end();
    const cancel = this.#options.clock.after(DISCONNECT_MS, () => this.destroy());
    void this.closed.then(cancel);
  }

  /** Closes the connection immediately. */
  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * Closes the connection when it was not used for a while and the host does not send anything soon: the host may have been
   * restarted, or a router may have forgotten the connection. No command is lost by that, as there is none.
   * @returns cancels it
   */
  #requireAnswer(): () => void {
    const { clock } = this.#options;
    const isUncertain = this.#channels === 0 && clock.now() - this.#unusedSince >= UNCERTAIN_AFTER_MS;
    if (!isUncertain) return () => undefined;
    const received = this.#socket.bytesRead;
    return clock.after(ANSWER_MS, () => {
      if (this.#socket.bytesRead === received) this.destroy();
    });
  }

  /**
   * Closes the connection when the host sends nothing, not even answers to keepalives. Not by ssh2's own limit: that one
   * ends a slow connection in the middle of a large output, since the answer comes after the output.
   */
  #watch(): void {
    let received = this.#socket.bytesRead;
    let silent = 0;
    const timer = setInterval(() => {
      silent = this.#socket.bytesRead === received ? silent + 1 : 0;
      received = this.#socket.bytesRead;
      if (silent > SILENT_INTERVALS) this.destroy();
    }, this.#options.keepaliveMs ?? KEEPALIVE_MS);
    void this.closed.then(() => clearInterval(timer));
  }

  /** The error for the step in which ssh2's exec failed (ssh2 1.17, lib/client.js: openChannel, reqExec). */
  #execFailure(host: string, error: Error): Error {
    if ('reason' in error) return new CommandNotSent('refused', error);
    if (error.message === 'No response from server') return new CommandNotSent('closed', error);
    if (!this.#open) return connectionLost(host);
    return new ActionError('command_failed', `${host} refused to run a command`, {
      details: { host, begun: false, exitStatus: null, signal: null, stderr: '' },
      cause: error,
    });
  }
}

/** Resolves after the login and, for a new host, after its key has been saved. */
function logIn(client: Client, socket: Socket, options: HandshakeOptions): Promise<void> {
  const { host, user, hostKey } = options;
  return new Promise((resolve, reject) => {
    let keyRefusal: Error | undefined;
    let hostKeySeen: Buffer | undefined;
    /** From the end of the handshake until the server has accepted the login. */
    let inLogin = false;
    let serverText = '';
    let keySaved: Promise<void> | undefined;

    // This listener is never removed: ssh2 may emit errors after the end of the connection.
    client.on('error', (error) => {
      // When the agent fails, ssh2 tries the other authentication methods.
      if (error.level === 'agent') return;
      reject(keyRefusal ?? failure(error));
    });
    client.once('close', () => reject(closed()));
    client.on('banner', (text) => {
      serverText = text;
    });
    client.once('handshake', () => {
      // Only the completed handshake proves that the host owns the key.
      inLogin = true;
      keySaved = hostKeySeen && hostKey.remember(hostKeySeen);
      keySaved?.catch(reject);
    });
    client.once('ready', () => {
      inLogin = false;
      Promise.resolve(keySaved).then(resolve, reject);
    });

    // After it has accepted the key, sshd closes the connection without a disconnect message when PAM refuses the account.
    const closed = (): Error =>
      inLogin ? loginEnded(host, user, serverText) : hostUnreachable(host, 'handshake_failed');

    const failure = (error: Error & { level?: string }): Error => {
      if (error.level === 'client-authentication')
        return loginRefused(host, user, { reason: 'no_accepted_key' }, error);
      // Not reported as a changed key: the host may be new, or support only SHA-1 signatures (RFC 8332).
      if (error.message.includes('no matching host key')) return hostKey.refusal('no_accepted_type');
      // The server disconnected during the login: too many attempts, or no such user.
      if (inLogin && 'code' in error && typeof error.code === 'number') {
        return loginRefused(host, user, { reason: 'no_accepted_key', said: error.message }, error);
      }
      return hostUnreachable(host, 'handshake_failed', error);
    };

    askForNoProofs(client);
    client.connect({
      sock: socket,
      username: user,
      authHandler: [...options.login],
      algorithms: { serverHostKey: hostKey.algorithms },
      // Must return undefined: ssh2 uses any other return value as the result, and a promise would accept every key.
      hostVerifier: (key: Buffer, verify: (accepted: boolean) => void): void => {
        // Called again when a long connection exchanges new session keys.
        hostKeySeen = Buffer.from(key);
        const reason = hostKey.problemWith(hostKeySeen);
        if (reason !== undefined) keyRefusal = hostKey.refusal(reason, hostKeySeen);
        verify(reason === undefined);
      },
      // Without a time limit of ssh2's own.
      readyTimeout: 0,
      keepaliveInterval: options.keepaliveMs ?? KEEPALIVE_MS,
      keepaliveCountMax: Number.POSITIVE_INFINITY,
    });
  });
}

/**
 * ssh2 1.17 asks every OpenSSH server to prove that it owns all of its host keys, though nobody reads the answer: the machine
 * signs, and the service verifies, once for each key. It does not ask servers of other names, and needs the name for nothing else
 * that is used here.
 */
function askForNoProofs(client: Client): void {
  Object.defineProperty(client, '_remoteVer', { get: () => '', set: () => {} });
}
