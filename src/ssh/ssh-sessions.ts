import { ActionError } from '../api/action-error.js';
import { canonicalHost } from '../api/grammar.js';
import type { Clock } from '../lib/clock.js';
import { Semaphore } from '../lib/semaphore.js';
import type { SshConnection } from './ssh-connection.js';
import { noFreeChannel, stopError } from './ssh-errors.js';
import { untilAborted } from '../lib/until-aborted.js';

/** sshd allows 10 by default (MaxSessions), but counts an ended channel for a while. */
const CHANNELS_PER_CONNECTION = 8;

/** A program that hangs, such as docker, takes only these channels, and leaves the others to other programs. */
const CHANNELS_PER_PROGRAM = 2;
/** Those of the changes of a program, which wait for units that start slowly, and leave the others to reads. */
const CHANNELS_OF_CHANGES = 4;

/** The right to one channel on a host's connection. */
export interface Lease {
  connection: SshConnection;
  /** Call this when the channel is closed, or was never opened. */
  release(): void;
  /** Call this when the connection is broken: later leases get another connection. */
  discard(): void;
}

export interface SessionsOptions {
  /** Opens a connection; the signal is aborted when no caller waits for the connection any more. */
  connect(host: string, signal: AbortSignal): Promise<SshConnection>;
  /**
   * How long a connection gets new callers, in milliseconds from its login. The machine gives a login the groups and the
   * environment of that time: changes count from the next login on.
   */
  maxAgeMs: number;
  /** How many connections are kept open without a caller. */
  maxIdle: number;
  clock: Clock;
}

interface Session {
  /** The host in its canonical form, so that all spellings share one session. */
  readonly key: string;
  /** Aborted when no caller waits for the connection. */
  readonly opening: AbortController;
  readonly channels: Semaphore;
  /** The channels of each program, and those of its changes. */
  readonly programs: Map<string, Semaphore>;
  /** The number of callers that hold a channel or wait for one. */
  users: number;
  connection: Promise<SshConnection>;
  /** Set when the connection is open. */
  opened?: SshConnection;
  cancelMaxAge?: () => void;
}

/**
 * A pool of connections: one for each host, shared by its callers, for a limited time. The number of hosts in use is not limited:
 * hosts that hang would use up a limit, and the others would wait for them. Each action limits how many machines it uses at a time.
 */
export class SshSessions {
  readonly #options: SessionsOptions;
  /** By `key`: the session that new callers of a host get. */
  readonly #sessions = new Map<string, Session>();
  /** Those of the pool without users, the least recently used first. */
  readonly #idle = new Set<Session>();
  /** All connections that are not closed yet, including those that get no new callers. */
  readonly #connections = new Set<SshConnection>();
  #closing = false;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /**
   * Waits for a channel on the host's connection that the program may use; opens the connection when there is none. Throws the
   * errors of `connect`; `timeout` with the program's name when a time limit passes before a channel is free; the signal's reason
   * when the signal is aborted otherwise; `cancelled` after `close`.
   */
  async lease(
    host: string,
    program: string,
    signal: AbortSignal,
    effect: 'read' | 'change' = 'read',
  ): Promise<Lease> {
    if (this.#closing) throw new ActionError('cancelled', 'the service is stopping');
    const session = this.#sessions.get(canonicalHost(host)) ?? this.#start(host);
    this.#idle.delete(session);
    session.users += 1;
    let releaseChannel: (() => void) | undefined;
    try {
      releaseChannel = await freeChannel(session, { host, program, effect, signal });
      const connection = await untilAborted(session.connection, signal);
      return {
        connection,
        release: () => this.#release(session, releaseChannel),
        discard: () => this.#retire(session),
      };
    } catch (error) {
      this.#release(session, releaseChannel);
      throw error;
    }
  }

  /** Closes all connections, including those in use. */
  async close(): Promise<void> {
    this.#closing = true;
    const sessions = [...this.#sessions.values()];
    for (const session of sessions) this.#retire(session);
    await Promise.allSettled(sessions.map((session) => session.connection));
    for (const connection of this.#connections) connection.end();
    await Promise.all([...this.#connections].map((connection) => connection.closed));
  }

  #start(host: string): Session {
    const opening = new AbortController();
    const session: Session = {
      key: canonicalHost(host),
      opening,
      channels: new Semaphore(CHANNELS_PER_CONNECTION),
      programs: new Map(),
      users: 0,
      connection: this.#connect(host, opening.signal),
    };
    this.#sessions.set(session.key, session);
    session.connection.then(
      (connection) => this.#opened(session, connection),
      () => this.#retire(session),
    );
    return session;
  }

  #opened(session: Session, connection: SshConnection): void {
    session.opened = connection;
    session.cancelMaxAge = this.#options.clock.after(this.#options.maxAgeMs, () => {
      this.#leavePool(session);
      if (session.users === 0) this.#retire(session);
    });
    void connection.closed.then(() => this.#retire(session));
  }

  async #connect(host: string, signal: AbortSignal): Promise<SshConnection> {
    const connection = await this.#options.connect(host, signal);
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
    // The last waiting caller may have stopped waiting just when the connection opened.
    if (signal.aborted) connection.end();
    return connection;
  }

  #release(session: Session, releaseChannel: (() => void) | undefined): void {
    releaseChannel?.();
    session.users -= 1;
    if (session.users > 0) return;
    const isPooled = this.#sessions.get(session.key) === session;
    if (!isPooled || session.opened === undefined) return this.#retire(session);
    this.#idle.add(session);
    const [longestIdle] = this.#idle;
    if (this.#idle.size > this.#options.maxIdle && longestIdle !== undefined) this.#retire(longestIdle);
  }

  #leavePool(session: Session): void {
    this.#idle.delete(session);
    if (this.#sessions.get(session.key) === session) this.#sessions.delete(session.key);
  }

  /** Removes the session from the pool; closes its connection, or stops opening it. */
  #retire(session: Session): void {
    this.#leavePool(session);
    session.cancelMaxAge?.();
    if (session.opened !== undefined) return session.opened.end();
    session.opening.abort(new ActionError('cancelled', 'no caller waits for the connection any more'));
  }
}

interface ChannelCaller {
  host: string;
  program: string;
  effect: 'read' | 'change';
  signal: AbortSignal;
}

/** Waits for a channel that the program may use. @returns releases it */
async function freeChannel(
  { channels, programs }: Session,
  { host, program, effect, signal }: ChannelCaller,
): Promise<() => void> {
  const [line, count] =
    effect === 'change' ? [`change by ${program}`, CHANNELS_OF_CHANGES] : [program, CHANNELS_PER_PROGRAM];
  const ofProgram = programs.get(line) ?? new Semaphore(count);
  programs.set(line, ofProgram);
  let releaseProgram: (() => void) | undefined;
  try {
    releaseProgram = await ofProgram.acquire(signal);
    const releaseChannel = await channels.acquire(signal);
    return () => {
      releaseChannel();
      releaseProgram?.();
    };
  } catch (error) {
    releaseProgram?.();
    throw stopError(signal).code === 'timeout' ? noFreeChannel(host, program, error) : error;
  }
}
