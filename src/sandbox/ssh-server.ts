import { writeFile } from 'node:fs/promises';
import { createServer, isIPv4, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import ssh2, { type AuthContext, type Connection, type ParsedKey, type ServerChannel } from 'ssh2';
import type { Clock } from '../lib/clock.js';
import { readTogetherArgv } from '../api/together-script.js';
import { knownHostName } from '../ssh/known-hosts.js';
import { marksOf } from '../ssh/remote-command.js';
import { Endpoints } from './endpoints.js';
import { type CommandFault, matchesCommand, OrderedFaults, type SshFault } from './faults.js';
import type { CommandSteps } from './command-steps.js';
import type { CommandResult } from './simulated-machine.js';
import {
  type CommandAnswer,
  type CommandMatcher,
  type CommandScript,
  ScriptedCommands,
} from './scripted-commands.js';
import { togetherAnswer } from './together-command.js';
import { makeTemporaryFolder, type TemporaryFolder } from './temporary-folder.js';
import { readWrappedCommand, type WrappedCommand } from './wrapped-command.js';

/** A command in the log. */
export interface ReceivedCommand {
  /** The address that received it. */
  host: string;
  argv: readonly string[];
  /** Whether it was wrapped in sudo. */
  sudo: boolean;
}

/** A simulated machine that runs commands. */
export interface CommandMachine {
  readonly id: string;
  /** Its address; null: it has none. */
  readonly address: string | null;
  /** What a command prints, at once or after some time; undefined: the machine does not know it. */
  run(argv: readonly string[], options: { sudo: boolean }): CommandResult | CommandSteps | undefined;
}

interface SshServerSetup {
  machines: readonly CommandMachine[];
  clock: Clock;
}

const USER = 'core';
const MAX_LOGGED = 10_000;

/** The exit status of a shell for an unknown program. */
const NOT_FOUND = 127;
const ENDED_BY_TERM = 128 + 15;
/** The exit status of timeout(1) when the limit is reached. */
const ENDED_BY_LIMIT = 124;

/**
 * The SSH servers of the simulated machines, on their loopback addresses and all on one port. They accept the commands
 * of `RemoteShell`, answer those that `on` names, and simulate those that the actions of this project run. Nothing is executed:
 * any other command ends with status 127 and a message.
 */
export class SshServer {
  /** The latest 10,000 commands, oldest first. */
  readonly commands: ReceivedCommand[] = [];
  /** The only accepted login name. */
  readonly user = USER;
  /** The file of the only accepted key, in OpenSSH's format. */
  readonly privateKeyFile: string;
  readonly knownHostsFile: string;
  readonly #folder: TemporaryFolder;
  readonly #setup: SshServerSetup;
  readonly #machines: ReadonlyMap<string, CommandMachine>;
  readonly #hostKeys: ReadonlyMap<string, KeyPair>;
  readonly #loginKey: KeyPair = newKeyPair();
  readonly #faults = new OrderedFaults<CommandFault>();
  readonly #scripted = new ScriptedCommands();
  readonly #endpoints = new Endpoints((host) => this.#newServer(host));
  #port = 0;

  private constructor(folder: TemporaryFolder, setup: SshServerSetup) {
    this.#folder = folder;
    this.#setup = setup;
    this.privateKeyFile = join(folder.path, 'id_ed25519');
    this.knownHostsFile = join(folder.path, 'known_hosts');
    this.#machines = machinesByAddress(setup);
    this.#hostKeys = new Map([...this.#machines.keys()].map((host) => [host, newKeyPair()]));
  }

  /**
   * Listens on those addresses of the machines that are loopback addresses and that this system has (Linux has
   * all of 127.0.0.0/8, other systems only 127.0.0.1).
   */
  static async start(setup: SshServerSetup): Promise<SshServer> {
    const server = new SshServer(makeTemporaryFolder('fleet-manager-sandbox-'), setup);
    try {
      await server.#start();
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** For `SSH_PORT`. */
  get port(): number {
    return this.#port;
  }

  /** The addresses it listens on. */
  get hosts(): string[] {
    return this.#endpoints.hosts;
  }

  /**
   * Starts a simulated fault.
   * @returns a function that ends it; after `refuse`, it resolves when the machines listen again
   * @throws TypeError when there is no such machine
   */
  fail(fault: SshFault): () => Promise<void> {
    const machine = this.#addressOf(fault.machine);
    if (fault.kind === 'refuse') return this.#endpoints.refuse(machine);
    const end = this.#faults.add({ ...fault, ...(machine !== undefined && { machine }) });
    return async () => end();
  }

  /**
   * Says what a command prints and how it ends. It is wrapped, stopped and limited as on a real machine. A later `on` for the same
   * command comes first, and all come before the commands that the sandbox simulates itself; a fault of `fail` comes before them.
   * @param command its words: `['docker', 'inspect', /^web/]`; or a function that gets all of them
   * @param answer what it does; a function gets the command; of a list each is used once, and the last one from then on
   * @param options.machine the id or the address of the only machine that answers so; by default all
   * @returns a function that removes it
   * @throws TypeError when there is no such machine, or the answer is none
   */
  on(
    command: CommandMatcher,
    answer: CommandScript | readonly CommandScript[],
    { machine }: { machine?: string } = {},
  ): () => void {
    return this.#scripted.add(command, answer, this.#addressOf(machine));
  }

  /** @param machine its id or its address; undefined: no one machine @throws TypeError when there is no such machine */
  #addressOf(machine: string | undefined): string | undefined {
    if (machine === undefined) return undefined;
    for (const [host, { id }] of this.#machines) if (machine === host || machine === id) return host;
    const known = [...this.#machines].flatMap(([host, { id }]) => [host, id]);
    throw new TypeError(`no machine with SSH has the id or the address ${machine}: ${known.join(', ')}`);
  }

  /** Stops listening, closes every connection and removes the files; the sandbox calls it. */
  async stop(): Promise<void> {
    this.#endpoints.stop();
    await this.#folder.remove();
  }

  async #start(): Promise<void> {
    this.#port = await this.#endpoints.listen([...this.#machines.keys()], 0, { skipMissing: true });
    const lines = this.hosts.map((host) => {
      const key = this.#hostKeys.get(host)?.publicKey ?? '';
      return `${knownHostName(host, this.#port)} ${key}\n`;
    });
    await writeFile(this.knownHostsFile, lines.join(''), { mode: 0o600 });
    await writeFile(this.privateKeyFile, this.#loginKey.privateKey, { mode: 0o600 });
  }

  #newServer(host: string): Server {
    const hostKeys = [this.#hostKeys.get(host)?.privateKey ?? ''];
    return createServer({ noDelay: true }, (socket) => {
      // One server for each connection: ssh2 does not show the socket of a connection.
      const server = new ssh2.Server({ hostKeys }, (client) => this.#serve(client, { host, socket }));
      server.injectSocket(socket);
    });
  }

  #serve(client: Connection, peer: Peer): void {
    // The client closed the connection, or the key exchange failed.
    client.on('error', () => undefined);
    client.on('authentication', (context) => this.#authenticate(context));
    // ssh2 refuses everything without a listener: shells, terminals, file transfer, forwarding.
    client.on('session', (accept) => {
      accept().on('exec', (start, _refuse, { command }) => this.#run(command, start(), peer));
    });
  }

  #authenticate(context: AuthContext): void {
    const { key } = this.#loginKey;
    const isLogin =
      context.method === 'publickey' &&
      context.username === USER &&
      context.key.data.equals(key.getPublicSSH()) &&
      isProven(context, key);
    if (isLogin) context.accept();
    else context.reject(['publickey']);
  }

  #run(line: string, channel: ServerChannel, { host, socket }: Peer): void {
    channel.on('error', () => undefined);
    // stdin is read only to detect its end.
    channel.resume();
    const wrapped = readWrappedCommand(line);
    if (wrapped === undefined) {
      finish(channel, unknownCommand(line));
      return;
    }
    const { argv, mark, sudo } = wrapped;
    const together = readTogetherArgv(argv);
    const programs = (together?.programs ?? [argv]).map((each) => ({ host, argv: each, sudo }));
    this.commands.push(...programs);
    this.commands.splice(0, this.commands.length - MAX_LOGGED);

    const answers: CommandAnswer[] = [];
    for (const program of programs) {
      const fault = this.#faults.next((each) => matchesCommand(each, program));
      if (fault?.kind === 'not-run') return finish(channel, fault);
      if (fault?.kind === 'drop') return void socket.destroy();
      if (fault?.kind === 'exit') answers.push(fault);
      else {
        const answer = fault === undefined ? this.#answerOf(program) : { hang: true };
        if (!('next' in answer)) answers.push(answer);
        else if (together === undefined) return this.#runOn(channel, wrapped, {}, answer);
        else answers.push(endOf(answer));
      }
    }
    const [first = {}] = answers;
    const answer =
      together === undefined ? first : togetherAnswer(together, answers, this.#setup.clock.wallTime());
    if (answer.hang === true || (answer.delayMs ?? 0) > 0) this.#runOn(channel, wrapped, answer);
    else finish(channel, marked(mark, { status: 0, ...answer }));
  }

  #answerOf(command: ReceivedCommand): CommandAnswer | CommandSteps {
    const { host, argv, sudo } = command;
    const machine = this.#machines.get(host);
    return (
      this.#scripted.next({ ...command, machine: machine?.id ?? '' }) ??
      machine?.run(argv, { sudo }) ??
      unscriptedCommand(argv)
    );
  }

  /**
   * Simulates the wrapped command while its program runs: until it ends, is stopped, or its limit is reached.
   * @param steps what it does meanwhile, in place of the answer
   */
  #runOn(
    channel: ServerChannel,
    { mark, limitSeconds }: WrappedCommand,
    { stdout = '', stderr = '', status = 0, delayMs = 0, hang = false }: CommandAnswer,
    steps: CommandSteps = delayed({ stdout, stderr, status }, hang ? Infinity : delayMs),
  ): void {
    const { clock } = this.#setup;
    const marks = marksOf(mark);
    let cancelStep = () => {};
    const step = () => {
      const { value, done } = steps.next();
      if (done === true) end(value.status, { stdout: value.stdout ?? '', stderr: value.stderr ?? '' });
      else if (Number.isFinite(value)) cancelStep = clock.after(value, step);
    };
    const end = (ended: number, last = { stdout: '', stderr: '' }) => {
      cancelLimit();
      cancelStep();
      channel.off('end', terminate);
      finish(channel, {
        status: ended,
        stdout: `${last.stdout}${marks.stdout}${ended}\n`,
        stderr: last.stderr,
      });
    };
    const terminate = () => end(ENDED_BY_TERM);
    const cancelLimit = clock.after(limitSeconds * 1_000, () => end(ENDED_BY_LIMIT));
    // `end` is also emitted when the connection is lost.
    channel.once('end', terminate);
    channel.write(`${marks.stdout}${hang ? stdout : ''}`);
    channel.stderr.write(`${marks.stderr}${hang ? stderr : ''}`);
    step();
  }
}

/** What it comes to, at once: programs that run together are such that take no time. */
function endOf(steps: CommandSteps): CommandResult {
  for (;;) {
    const { value, done } = steps.next();
    if (done === true) return value;
  }
}

function* delayed(result: CommandResult, ms: number): CommandSteps {
  yield ms;
  return result;
}

interface Peer {
  host: string;
  socket: Socket;
}

interface KeyPair {
  /** In OpenSSH's format. */
  privateKey: string;
  /** `TYPE BASE64`. */
  publicKey: string;
  key: ParsedKey;
}

function newKeyPair(): KeyPair {
  for (;;) {
    const { private: privateKey, public: publicKey } = ssh2.utils.generateKeyPairSync('ed25519');
    const key = ssh2.utils.parseKey(privateKey);
    // ssh2 1.17 drops the first byte of a public key when it is zero (one key in 256), and cannot read that key again.
    if (!(key instanceof Error)) return { privateKey, publicKey, key };
  }
}

/** If several machines have the same address, the first one is used. */
function machinesByAddress({ machines }: SshServerSetup): Map<string, CommandMachine> {
  const found = new Map<string, CommandMachine>();
  for (const machine of machines) {
    const { address } = machine;
    if (address !== null && isLoopback(address) && !found.has(address)) found.set(address, machine);
  }
  return found;
}

function isLoopback(address: string): boolean {
  return isIPv4(address) && address.startsWith('127.');
}

/** Whether the client owns the key. A request without a signature only asks whether the key would be accepted. */
function isProven(
  { signature, blob, hashAlgo }: Extract<AuthContext, { method: 'publickey' }>,
  key: ParsedKey,
): boolean {
  if (signature === undefined || blob === undefined) return signature === undefined;
  const verified: unknown = key.verify(blob, signature, hashAlgo);
  // It returns an Error for a malformed signature.
  return verified === true;
}

function unknownCommand(text: string): CommandResult {
  const shown = text.length > 200 ? `${text.slice(0, 200)}...` : text;
  return { status: NOT_FOUND, stderr: `sandbox: a simulated machine does not know this command: ${shown}\n` };
}

function unscriptedCommand(argv: readonly string[]): CommandResult {
  const { status, stderr } = unknownCommand(argv.join(' '));
  const words = `[${argv.map((word) => JSON.stringify(word)).join(', ')}]`;
  const how = words.length > 200 ? 'sandbox.ssh.on' : `sandbox.ssh.on(${words}, { stdout: '...' })`;
  return {
    status,
    stderr: `${stderr}It knows those of the service's own actions. In a test, say what this one prints: ${how}\n`,
  };
}

/** What the wrapped command prints when its program prints this. */
function marked(mark: string, { status, stdout = '', stderr = '' }: CommandResult): CommandResult {
  const marks = marksOf(mark);
  return {
    status,
    stdout: `${marks.stdout}${stdout}${marks.stdout}${status}\n`,
    stderr: `${marks.stderr}${stderr}`,
  };
}

function finish(channel: ServerChannel, { status, stdout = '', stderr = '' }: CommandResult): void {
  // The connection is closed.
  if (!channel.stderr.writable) return;
  // stderr first, then stdout: a channel of ssh2 can wait for window space with only one of them.
  channel.stderr.write(stderr, () => {
    channel.write(stdout, () => {
      channel.exit(status);
      channel.end();
    });
  });
}
