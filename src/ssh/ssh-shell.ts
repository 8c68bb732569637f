import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { AnyAuthMethod, ClientChannel } from 'ssh2';
import { ActionError } from '../api/action-error.js';
import { isHostAddress } from '../api/grammar.js';
import type { ConnectionPolicy } from '../network/connection-policy.js';
import type { Clock } from '../lib/clock.js';
import type { RemoteOutput, RemoteRunOptions, RemoteShell } from '../api/remote-shell.js';
import type { Logger } from '../lib/logger.js';
import { systemClock } from '../lib/clock.js';
import { type HostKeyMode, HostKeys } from './host-keys.js';
import { remoteCommand } from './remote-command.js';
import { parsePrivateKey } from './private-key.js';
import { followRun, type RunOptions, stopRun } from './remote-run.js';
import { outcomeUnknown } from './run-errors.js';
import { CommandNotSent, SshConnection } from './ssh-connection.js';
import { hostUnreachable, stopError } from './ssh-errors.js';
import { type Lease, SshSessions } from './ssh-sessions.js';
import { connectTcp } from './tcp-connect.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { WatchUpstream } from '../lib/upstream.js';

/**
 * Added to a command's time limit on the host, in seconds: the host stops the command only when the service could not.
 */
const HOST_LIMIT_MARGIN_SECONDS = 5;

/** The waits between attempts to open a channel, in milliseconds; 10 s in total. */
const CHANNEL_RETRY_MS = [50, 100, 200, 400, 750, 1_000, 1_500, 2_000, 2_000, 2_000];

/** How often a broken connection is replaced, for one command that was not sent yet. */
const MAX_REPLACEMENTS = 2;

export interface SshShellOptions {
  /** The user name for the login on the hosts that have none of their own. */
  user: string;
  port: number;
  /** The port and the user of a host, where they differ from these; by default no host has its own. */
  loginOf?:
    | ((host: string) => { port: number | undefined; user: string | undefined } | undefined)
    | undefined;
  /** The content of a private key file in OpenSSH's format or a PEM format, PKCS#8 too; tried before the agent. */
  privateKey?: Buffer | string;
  passphrase?: string;
  /** The path of an ssh-agent's socket. */
  agentSocket?: string;
  /** Undefined: there is none, so every host is refused unless `hostKeys` is `off`. */
  knownHostsFile: string | undefined;
  hostKeys: HostKeyMode;
  /** Whether commands run as root with `sudo -n`, unless the option `sudo` of a call overrides it. */
  sudo: boolean;
  /** The time limit for the lookup of a host's addresses, and for each connection attempt. */
  connectTimeoutMs: number;
  /** The time limit from the connected socket to the login, and for opening a channel. */
  handshakeTimeoutMs: number;
  /** The keepalive interval of a connection, in milliseconds; 3 s by default. */
  keepaliveMs?: number;
  /** How long a connection is used for new commands, in milliseconds from its login; 30 s by default. */
  maxAgeMs?: number;
  /** How many connections are kept open for later commands; 256 by default. */
  maxIdle?: number;
  policy: ConnectionPolicy;
  /** Is told of each login and each command; undefined: nobody is. */
  watch?: WatchUpstream | undefined;
  clock?: Clock;
  log: Logger;
}

/**
 * Runs commands on machines by SSH, on pooled connections. The user's login shell on the machine may be any that reads the
 * line of `shellLine`; `sh`, `env` and `timeout` must be there.
 *
 * `run` throws `forbidden`, `host_unreachable`, `host_key_refused`, `login_refused`, `command_failed`, `outcome_unknown`,
 * `timeout`, `cancelled` and `invalid_parameters`. Its `timeoutMs` counts from the start of the command. The connection has separate
 * time limits. Commands of one program wait for each other: two reads and four changes run on a host at a time. All waiting ends when the signal
 * is aborted.
 */
export class SshShell implements RemoteShell {
  readonly #options: SshShellOptions;
  readonly #clock: Clock;
  readonly #hostKeys: HostKeys;
  readonly #methods: (user: string) => AnyAuthMethod[];
  readonly #sessions: SshSessions;
  readonly #running = new Set<AbortController>();

  /** @throws PrivateKeyProblem when the private key cannot be used */
  constructor(options: SshShellOptions) {
    const { hostKeys, knownHostsFile, log, clock = systemClock, maxAgeMs = 30_000, maxIdle = 256 } = options;
    this.#options = options;
    this.#clock = clock;
    this.#hostKeys = new HostKeys({ mode: hostKeys, file: knownHostsFile, log });
    this.#methods = loginMethods(options);
    this.#sessions = new SshSessions({
      connect: (host, signal) => this.#connect(host, signal),
      maxAgeMs,
      maxIdle,
      clock,
    });
    if (hostKeys === 'off') {
      log.warn('SSH host keys are not checked');
    }
  }

  async run(
    host: string,
    argv: readonly [string, ...string[]],
    options: RemoteRunOptions,
  ): Promise<RemoteOutput> {
    if (options.signal.aborted) throw stopError(options.signal);
    // Not `invalid_parameters`: the host may be a machine address from fleet, not from the caller.
    if (!isHostAddress(host)) throw hostUnreachable(host, 'no_host');
    const mark = randomBytes(16).toString('hex');
    const command = remoteCommand(argv, {
      mark,
      limitSeconds: Math.ceil(options.timeoutMs / 1_000) + HOST_LIMIT_MARGIN_SECONDS,
      sudo: options.sudo ?? this.#options.sudo,
    });
    const own = new AbortController();
    const abort = () => own.abort(stopError(options.signal));
    // Node warns of a leak at the eleventh listener, but any number of commands may have one signal.
    setMaxListeners(0, options.signal);
    options.signal.addEventListener('abort', abort, { once: true });
    this.#running.add(own);
    const watched = this.#options.watch?.('ssh', `run ${argv[0]}`, host);
    try {
      const output = await this.#run(command, {
        effect: 'read',
        anyExitStatus: false,
        partial: false,
        ...options,
        host,
        user: this.#userOn(host),
        program: argv[0],
        mark,
        clock: this.#clock,
        signal: own.signal,
      });
      watched?.end();
      return output;
    } catch (error) {
      watched?.end(error, own.signal.aborted);
      throw error;
    } finally {
      options.signal.removeEventListener('abort', abort);
      this.#running.delete(own);
    }
  }

  /** Stops all running commands with `cancelled`, and closes all connections. */
  async close(): Promise<void> {
    for (const each of this.#running) each.abort(new ActionError('cancelled', 'the service is stopping'));
    await this.#sessions.close();
  }

  async #run(
    command: string,
    options: RunOptions & Pick<RemoteRunOptions, 'startSignal'>,
  ): Promise<RemoteOutput> {
    const { host, program, effect, signal, startSignal } = options;
    const waiting = startSignal === undefined ? signal : AbortSignal.any([signal, startSignal]);
    for (let replacements = 0; ; replacements += 1) {
      const lease = await this.#sessions.lease(host, program, waiting, effect);
      try {
        const channel = await this.#start(lease, command, options);
        const run = followRun(lease.connection, channel, options);
        void run.ended.then(() => lease.release());
        return await run.outcome;
      } catch (error) {
        if (!(error instanceof CommandNotSent)) throw error;
        if (error.why === 'refused') throw hostUnreachable(options.host, 'channel_refused', error);
        // Closing may take a while; discarded, the connection is not used for the next attempt.
        lease.discard();
        if (replacements === MAX_REPLACEMENTS) throw hostUnreachable(options.host, 'connection_lost', error);
      }
    }
  }

  /** Starts the command on a channel of the leased connection; releases the lease on failure. */
  async #start(lease: Lease, command: string, options: RunOptions): Promise<ClientChannel> {
    const { signal, effect } = options;
    const sent = { maybe: false };
    const starting = this.#openChannel(lease, command, { signal, sent });
    try {
      return await untilAborted(starting, signal);
    } catch (error) {
      // If the channel still opens later, its command is stopped before the lease is released.
      void starting
        .then((channel) => stopRun(lease.connection, channel, this.#clock))
        .catch(() => undefined)
        .finally(() => lease.release());
      throw effect === 'change' && sent.maybe ? outcomeUnknown(options, error) : error;
    }
  }

  /** @param sent whether the host may have got the command; it is kept up to date */
  async #openChannel(
    lease: Lease,
    command: string,
    { signal, sent }: { signal: AbortSignal; sent: { maybe: boolean } },
  ): Promise<ClientChannel> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        sent.maybe = true;
        return await lease.connection.exec(command);
      } catch (error) {
        sent.maybe = !hasNotGotIt(error);
        const wait = CHANNEL_RETRY_MS[attempt];
        if (!(error instanceof CommandNotSent) || error.why !== 'refused' || wait === undefined) throw error;
        await this.#clock.sleep(wait, { signal });
      }
    }
  }

  async #connect(host: string, signal: AbortSignal): Promise<SshConnection> {
    const watched = this.#options.watch?.('ssh', 'log in', host);
    try {
      const connection = await this.#loggedIn(host, signal);
      watched?.end();
      return connection;
    } catch (error) {
      watched?.end(error, signal.aborted);
      throw error;
    }
  }

  async #loggedIn(host: string, signal: AbortSignal): Promise<SshConnection> {
    const { connectTimeoutMs, handshakeTimeoutMs, keepaliveMs, log } = this.#options;
    const port = this.#options.loginOf?.(host)?.port ?? this.#options.port;
    const user = this.#userOn(host);
    const clock = this.#clock;
    const addresses = await this.#addresses(host, signal);
    const hostKey = await this.#hostKeys.check(host, port);
    const socket = await connectTcp(addresses, port, { host, timeoutMs: connectTimeoutMs, clock, signal });
    const address = socket.remoteAddress;
    const connection = await SshConnection.handshake(socket, {
      host,
      user,
      login: this.#methods(user),
      hostKey,
      handshakeTimeoutMs,
      keepaliveMs,
      clock,
      signal,
    });
    log.debug('SSH connection opened', { host, address, port });
    void connection.closed.then(() => log.debug('SSH connection closed', { host, address, port }));
    return connection;
  }

  #userOn(host: string): string {
    return this.#options.loginOf?.(host)?.user ?? this.#options.user;
  }

  async #addresses(host: string, signal: AbortSignal): Promise<string[]> {
    const { policy, connectTimeoutMs: ms } = this.#options;
    const reason = () => new Error(`no addresses within ${ms} ms`);
    try {
      return await runWithin({ ms, clock: this.#clock, reason, signal }, (limited) =>
        untilAborted(policy.resolve(host, { signal: limited }), limited),
      );
    } catch (error) {
      if (error instanceof ActionError) throw error;
      throw hostUnreachable(host, 'dns', error);
    }
  }
}

/** Whether the host has certainly not got the command: no channel was opened, or the command was refused. */
function hasNotGotIt(error: unknown): boolean {
  return error instanceof CommandNotSent || (error instanceof ActionError && error.code === 'command_failed');
}

function loginMethods({
  privateKey,
  passphrase,
  agentSocket,
}: SshShellOptions): (user: string) => AnyAuthMethod[] {
  // Parsed once for all connections: decrypting a key with a passphrase takes a tenth of a second.
  const key = privateKey === undefined ? undefined : parsePrivateKey(privateKey, passphrase);
  return (username) => {
    const methods: AnyAuthMethod[] = [];
    if (key !== undefined) methods.push({ type: 'publickey', username, key });
    if (agentSocket !== undefined) methods.push({ type: 'agent', username, agent: agentSocket });
    // Few servers accept `none`, but then the server refuses the login with a proper error.
    if (methods.length === 0) methods.push({ type: 'none', username });
    return methods;
  };
}
