import { accessSync, constants } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { closestMatch } from '../lib/closest-match.js';
import { reasonOf } from '../lib/errors.js';
import { ALL_SETTINGS } from '../settings/settings.js';
import { failed, type Finding } from './finding.js';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Checks the variables that are no settings, but concern the service: mistyped settings, and what changes how Node.js
 * connects.
 * @returns undefined: there is nothing to say
 */
export function checkEnvironment(env: Environment): Finding | undefined {
  const names = Object.keys(env).filter((name) => (env[name]?.trim() ?? '') !== '');
  const problems = problemsOfNode(env);
  const notes = [...names.flatMap(noteOn), ...notesOfProxies(names)];
  if (problems.length === 0 && notes.length === 0) return undefined;
  return { result: problems.length > 0 ? 'FAILED' : 'ok', lines: [...problems, ...notes] };
}

function problemsOfNode({
  NODE_TLS_REJECT_UNAUTHORIZED: tls,
  NODE_EXTRA_CA_CERTS: file,
}: Environment): string[] {
  const problems: string[] = [];
  if (tls?.trim() === '0')
    problems.push(
      'NODE_TLS_REJECT_UNAUTHORIZED is 0: no certificate is checked, so anyone on the network can impersonate a server',
      '-> unset it; set AMQP_CA_FILE, or NODE_EXTRA_CA_CERTS, to the certificate of the authority',
    );
  if (file) {
    try {
      accessSync(file, constants.R_OK);
    } catch (error) {
      problems.push(
        `NODE_EXTRA_CA_CERTS cannot be used: ${reasonOf(error)}`,
        '-> set it to a file that this user can read, or unset it',
      );
    }
  }
  return problems;
}

const SETTINGS = ALL_SETTINGS.map(({ name }) => name);
/** The variables that the service reads. */
const READ = new Set(ALL_SETTINGS.flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name])));

/** Variables of OpenSSL, whose names resemble those of settings. */
const OF_OTHERS: ReadonlySet<string> = new Set(['SSL_CERT_FILE', 'SSL_CERT_DIR']);

function noteOn(name: string): string[] {
  if (READ.has(name) || OF_OTHERS.has(name)) return [];
  const setting = name.endsWith('_FILE') ? name.slice(0, -'_FILE'.length) : undefined;
  if (setting !== undefined && SETTINGS.includes(setting))
    return [`${name} is set, but only a secret is read from a file: set ${setting}`];
  const meant = closestMatch(name.toUpperCase(), SETTINGS);
  return meant === undefined
    ? []
    : [`${name} is set, but there is no such setting: if you mean ${meant}, rename it`];
}

function notesOfProxies(names: readonly string[]): string[] {
  const proxies = names.filter((name) => /^(?:https?|all)_proxy$/i.test(name));
  if (proxies.length === 0) return [];
  return [`${proxies.join(', ')} set, but the service uses no proxy: it must reach its servers directly`];
}

const LEAST_FREE_BYTES = 1024 * 1024;

/**
 * Checks whether a host key can be added to the known_hosts file: the only file that the service writes.
 * @returns undefined: there is room, or this cannot be known
 */
export async function checkDisk(knownHostsFile: string): Promise<Finding | undefined> {
  const folder = dirname(knownHostsFile);
  try {
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize >= LEAST_FREE_BYTES) return undefined;
  } catch {
    // The check of known_hosts reports a folder that cannot be used.
    return undefined;
  }
  return failed(
    `the disk of ${folder} is full, so no host key can be saved: new machines are refused`,
    'free some space, or set SSH_KNOWN_HOSTS to a file on another disk',
  );
}
