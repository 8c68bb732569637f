import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reasonOf } from '../lib/errors.js';
import type { Configuration } from '../settings/settings.js';
import { failed, type Finding } from './finding.js';

type SshSettings = Configuration['ssh'];

/** Runs a check with settings that leave the known_hosts file as it is: the keys of new hosts go to a temporary copy. */
export async function withoutNewHosts(
  ssh: SshSettings,
  check: (unchanged: SshSettings) => Promise<Finding>,
): Promise<Finding> {
  const { hostKeys, knownHostsFile: file } = ssh;
  if (hostKeys !== 'accept-new' || file === undefined) return check(ssh);
  const folder = await mkdtemp(join(tmpdir(), 'fleet-manager-doctor-'));
  try {
    const copy = join(folder, 'known_hosts');
    if (existsSync(file)) await copyFile(file, copy);
    return await check({ ...ssh, knownHostsFile: copy });
  } catch (error) {
    return failed(`the machines cannot be checked: ${reasonOf(error)}`, 'see known_hosts above');
  } finally {
    await rm(folder, { recursive: true });
  }
}
