import { access, constants, mkdtemp, readFile, rmdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import ssh2 from 'ssh2';
import type { Configuration } from '../settings/settings.js';
import { reasonOf } from '../lib/errors.js';
import { DEFAULT_PORT, knownHostName, parseKnownHosts } from '../ssh/known-hosts.js';
import { PrivateKeyProblem, type PrivateKeyReason } from '../ssh/private-key.js';
import { counted, failed, type Finding, listed, ok } from './finding.js';

type SshSettings = Configuration['ssh'];

/**
 * Checks whether a key to log in to machines is available. It does not log in.
 * @param actions the names of the served actions that log in to machines
 * @param useKey throws when the private key cannot be used
 */
export async function checkLogin(
  { privateKey, agentSocket }: Pick<SshSettings, 'privateKey' | 'agentSocket'>,
  { actions, useKey }: { actions: readonly string[]; useKey: () => Promise<void> },
  signal: AbortSignal,
): Promise<Finding> {
  if (privateKey === undefined && agentSocket === undefined) {
    return failed(
      `neither SSH_KEY_FILE nor SSH_AUTH_SOCK is set, which these actions need to log in to machines: ${listed(actions)}`,
      'set SSH_KEY_FILE to a private key that the machines accept',
    );
  }
  if (privateKey !== undefined) {
    try {
      await useKey();
    } catch (error) {
      return failed(reasonOf(error), keyRemedy(error));
    }
  }
  const key = privateKey === undefined ? [] : ['the private key can be used'];
  if (agentSocket === undefined) return ok(...key);
  const agent = await checkAgent(agentSocket, signal);
  if (privateKey === undefined || agent.result === 'ok') return { ...agent, lines: [...key, ...agent.lines] };
  // A failed agent is only reported when there is a key: it is used after the key, and the variable may come from the shell.
  return ok(...key, ...agent.lines);
}

const KEY_REMEDIES: Readonly<Record<PrivateKeyReason, string>> = {
  passphrase_missing: 'set SSH_PASSPHRASE to the passphrase of the key',
  passphrase_wrong: 'check SSH_PASSPHRASE; spaces at its ends belong to it',
  public_key: 'set SSH_KEY_FILE to the private key, usually the same file name without .pub',
  unsupported_type: 'set SSH_KEY_FILE to an Ed25519, RSA or ECDSA key',
  not_a_key: "set SSH_KEY_FILE to a private key in OpenSSH's format, a PEM format or PKCS#8",
};

function keyRemedy(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return KEY_REMEDIES[cause instanceof PrivateKeyProblem ? cause.reason : 'not_a_key'];
}

async function checkAgent(socket: string, signal: AbortSignal): Promise<Finding> {
  const remedy = `start an ssh-agent and add a key to it (ssh-add), or set SSH_KEY_FILE instead of SSH_AUTH_SOCK`;
  try {
    const count = await agentKeys(socket, signal);
    if (count === 0) return failed(`the ssh-agent at ${socket} has no keys`, remedy);
    return ok(`the ssh-agent has ${counted(count, 'key')}`);
  } catch (error) {
    return failed(`SSH_AUTH_SOCK: no ssh-agent responds at ${socket}: ${reasonOf(error)}`, remedy);
  }
}

/** How many keys an ssh-agent has. */
function agentKeys(path: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, signal });
    const protocol = new ssh2.AgentProtocol(true);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('it closed the connection')));
    protocol.once('error', reject);
    protocol.getIdentities((error, keys = []) => {
      if (error) reject(error);
      else resolve(keys.length);
      socket.destroy();
    });
    protocol.pipe(socket).pipe(protocol);
  });
}

/**
 * Checks whether the known_hosts file can be used in the mode of SSH_HOST_KEYS, and which machines it contains. The file is
 * not changed.
 * @param machines the addresses of a cluster's machines; undefined: they are not known
 * @param portOf the port of a machine, where it may have its own
 */
export async function checkKnownHosts(
  { hostKeys, knownHostsFile: file, port }: Pick<SshSettings, 'hostKeys' | 'knownHostsFile' | 'port'>,
  machines: readonly string[] | undefined,
  portOf: (address: string) => number = () => port,
): Promise<Finding> {
  if (hostKeys === 'off')
    return failed('SSH_HOST_KEYS is off: anyone can impersonate a machine', 'set it to strict or accept-new');
  if (file === undefined)
    return failed(
      'this user has no home folder, so there is no known_hosts file',
      'set SSH_KNOWN_HOSTS to a file that this user can read',
    );
  let text: string | undefined;
  try {
    text = await readIfExists(file);
    if (hostKeys === 'accept-new') await requireWritable(file);
  } catch (error) {
    return failed(
      `${file} cannot be used: ${reasonOf(error)}`,
      `set SSH_KNOWN_HOSTS to a file that this user can read${hostKeys === 'strict' ? '' : ' and write'}`,
    );
  }
  const { entries, authorities, malformed } = parseKnownHosts(text ?? '');
  const trusted = entries.filter(({ revoked }) => !revoked);
  const unknown = (machines ?? []).filter(
    (address) =>
      !trusted.some((entry) =>
        [portOf(address), DEFAULT_PORT].some((each) => entry.matches(knownHostName(address, each))),
      ),
  );
  const lines = [
    summaryOf(file, { isThere: text !== undefined, keys: trusted.length, authorities: authorities.length }),
  ];
  if (trusted.length > 0 && authorities.length > 0)
    lines.push(`${counted(authorities.length, '@cert-authority line')} not used: ${NO_CERTIFICATES}`);
  if (malformed.length > 0) lines.push(`invalid lines: ${listed(malformed)}`);
  if (unknown.length > 0)
    lines.push(
      `no host key is known for ${unknown.length} of the cluster's ${counted(machines?.length ?? 0, 'machine')}: ${listed(unknown)}`,
    );
  else if (machines !== undefined && machines.length > 0)
    lines.push(`the host keys of all the cluster's machines are known: ${listed(machines)}`);
  if (hostKeys === 'accept-new') {
    return ok(...lines, 'the key of an unknown machine is saved at the first connection to it');
  }
  if (trusted.length > 0 && unknown.length === 0) return ok(...lines);
  const scans =
    unknown.length === 0
      ? [`ssh-keyscan -p ${port} HOST... >> ${file}`]
      : [...new Set(unknown.map(portOf))].map((each) => {
          const hosts = unknown.filter((address) => portOf(address) === each);
          return `ssh-keyscan -p ${each} ${hosts.join(' ')} >> ${file}`;
        });
  const refused =
    trusted.length === 0
      ? 'with SSH_HOST_KEYS=strict no machine is trusted'
      : 'connections to these machines are refused';
  return {
    result: 'FAILED',
    lines: [...lines, refused, `-> ${scans.join('; ')}, and check the keys; or set SSH_KNOWN_HOSTS`],
  };
}

const NO_CERTIFICATES = 'host certificates are not supported, so it needs the host keys themselves';

function summaryOf(
  file: string,
  { isThere, keys, authorities }: { isThere: boolean; keys: number; authorities: number },
): string {
  if (!isThere) return `${file} does not exist yet`;
  return keys === 0 && authorities > 0
    ? `${file} has only @cert-authority lines: ${NO_CERTIFICATES}`
    : `${file} has ${counted(keys, 'host key')}`;
}

async function readIfExists(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    if (isMissing(error)) return undefined;
    throw error;
  });
}

/** @throws Error when the file cannot be written or, if it does not exist, not created */
async function requireWritable(file: string): Promise<void> {
  try {
    await access(file, constants.W_OK);
  } catch (error) {
    if (!isMissing(error)) throw error;
    await requireWritableFolder(dirname(file));
  }
}

/** @throws Error when no file can be created in the folder or, if it does not exist, in its nearest existing parent */
async function requireWritableFolder(folder: string): Promise<void> {
  try {
    // access() is not enough: it allows root everything, also on a read-only file system.
    await rmdir(await mkdtemp(join(folder, '.fleet-manager-doctor-')));
  } catch (error) {
    if (isMissing(error) && !(await exists(folder))) return requireWritableFolder(dirname(folder));
    const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : '';
    throw new Error(`no file can be created in ${folder}${code}`, { cause: error });
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
