import { ActionError } from '../api/action-error.js';
import { canonicalHost } from '../api/grammar.js';
import type { Clock } from '../lib/clock.js';
import { Slots } from '../lib/semaphore.js';
import type { SshConnection } from './ssh-connection.js';
import { untilAborted } from '../lib/until-aborted.js';

/** sshd allows 10 by default (MaxSessions), and is late to see that one has ended. */
const CHANNELS_PER_CONNECTION = 4;

/** The right to one channel on a host's connection. */
export interface Lease {
  connection: SshConnection;
  /** To be called when the channel is closed, or was never opened. */
  release(): void;
  /** To be called when the connection turns out to be dead: from then on nobody gets it any more. */
  discard(): void;
}

export interface SessionsOptions {
  /** Opens a connection; the signal is aborted when nobody waits for it any more. */
  connect(host: string, signal: AbortSignal): Promise<SshConnection>;
  /** How long a connection is kept that nobody uses, in milliseconds. */
  idleMs: number;
  /** With how many hosts there may be a connection at once. */
  maxHosts: number;
  clock: Clock;
}

interface Session {
  /** The host in its canonical form, so that there is one session however callers write it. */
  readonly key: string;
  /** Aborted when nobody waits for the connection. */
  readonly opening: AbortController;
  readonly channels: Slots;
  /** Those that hold a channel or wait for one. */
  users: number;
  connection: Promise<SshConnection>;
  /** Set once it is open. */
  opened?: SshConnection;
  cancelIdle?: () => void;
}

/** Connections to hosts: one each, shared, closed when idle. */
export class SshSessions {
  readonly #options: SessionsOptions;
  readonly #hosts: Slots;
  /** In the order of their last use, the longest unused first. */
  readonly #sessions = new Map<string, Session>();
  /** All connections that are not closed yet, those that were let go included. */
  readonly #connections = new Set<SshConnection>();
  #closing = false;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#hosts = new Slots(options.maxHosts);
  }

  /**
   * Waits for a channel's place on the host's connection, opening the connection when there is none. Throws what
   * `connect` throws; the signal's reason when that is aborted; `cancelled` when closed.
   */
  async lease(host: string, signal: AbortSignal): Promise<Lease> {
    if (this.#closing) throw new ActionError('cancelled', 'the service is stopping');
    const session = this.#sessions.get(canonicalHost(host)) ?? this.#start(host);
    session.users += 1;
    session.cancelIdle?.();
    let giveBack: (() => void) | undefined;
    try {
      giveBack = await session.channels.take(signal);
      const connection = await untilAborted(session.connection, signal);
      return {
        connection,
        release: () => this.#release(session, giveBack),
        discard: () => this.#letGo(session),
      };
    } catch (error) {
      this.#release(session, giveBack);
      throw error;
    }
  }

  /** Closes all connections, those in use too. */
  async close(): Promise<void> {
    this.#closing = true;
    const sessions = [...this.#sessions.values()];
    for (const session of sessions) this.#letGo(session);
    await Promise.allSettled(sessions.map((session) => session.connection));
    await Promise.all([...this.#connections].map((connection) => connection.closed));
  }

  #start(host: string): Session {
    const opening = new AbortController();
    const session: Session = {
      key: canonicalHost(host),
      opening,
      channels: new Slots(CHANNELS_PER_CONNECTION),
      users: 0,
      connection: this.#connect(host, opening.signal),
    };
    this.#sessions.set(session.key, session);
    session.connection.then(
      (connection) => this.#opened(session, connection),
      () => this.#letGo(session),
    );
    return session;
  }

  #opened(session: Session, connection: SshConnection): void {
    session.opened = connection;
    void connection.closed.then(() => this.#letGo(session));
  }

  async #connect(host: string, signal: AbortSignal): Promise<SshConnection> {
    if (this.#hosts.full) this.#letGoLongestIdle();
    const leavePlace = await this.#hosts.take(signal);
    try {
      const connection = await this.#options.connect(host, signal);
      this.#connections.add(connection);
      void connection.closed.then(() => this.#connections.delete(connection)).then(leavePlace);
      // The last one to wait may have gone in the very moment that it opened.
      if (signal.aborted) connection.end();
      return connection;
    } catch (error) {
      leavePlace();
      throw error;
    }
  }

  #release(session: Session, giveBack: (() => void) | undefined): void {
    giveBack?.();
    session.users -= 1;
    if (session.users > 0 || this.#sessions.get(session.key) !== session) return;
    if (session.opened === undefined || this.#hosts.waiting > 0) {
      this.#letGo(session);
      return;
    }
    this.#sessions.delete(session.key);
    this.#sessions.set(session.key, session);
    session.cancelIdle = this.#options.clock.after(this.#options.idleMs, () => this.#letGo(session));
  }

  #letGoLongestIdle(): void {
    const idle = [...this.#sessions.values()].find(({ users, opened }) => users === 0 && opened);
    if (idle !== undefined) this.#letGo(idle);
  }

  /** Nobody gets this session any more; its connection closes, or is not opened. */
  #letGo(session: Session): void {
    if (this.#sessions.get(session.key) === session) this.#sessions.delete(session.key);
    session.cancelIdle?.();
    session.opening.abort(new ActionError('cancelled', 'the connection is no longer wanted'));
    session.opened?.end();
  }
}
