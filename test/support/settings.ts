import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ConfigurationError } from '../../src/settings/configuration-error.js';
import { describeSettings, type ShownSetting } from '../../src/settings/describe-settings.js';
import type { ConfigurationSource } from '../../src/settings/given-settings.js';
import { readConfiguration } from '../../src/settings/read-configuration.js';
import type { Configuration } from '../../src/settings/settings.js';

export type Env = Record<string, string>;

export const NOWHERE = '/nonexistent';

export const INSTALLATION = {
  MANAGER_URL: 'https://manager.example.com/api',
  OAUTH_LOGIN_URL: 'https://auth.example.com/oauth/token',
  OAUTH_CLIENT_ID: 'fleet-manager',
  OAUTH_CLIENT_SECRET: 'Zqsecret',
  EXCHANGE_ID: '7',
  BROKER_ID: '3',
};

/** Settings of a service with a gateway that reaches no cluster and no machine. */
export const REACHES_NOTHING = {
  FLEET_API_PORT: '4001',
  SSH_KNOWN_HOSTS: '/nowhere/known_hosts',
  HTTP_PORT: '0',
};

/** A folder with these files, removed when the test ends. */
export async function folder(t: ExecutionContext, files: Record<string, string> = {}): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'configuration-'));
  t.teardown(() => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'config'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  return directory;
}

export function read(env: Env, directory = NOWHERE): Configuration {
  return readConfiguration({ env, directory });
}

export function serving(env: Env, directory = NOWHERE): Configuration {
  return readConfiguration({ env, directory }, { serving: true });
}

export function problemsOf(t: ExecutionContext, work: () => unknown): readonly string[] {
  const error = t.throws(work, { instanceOf: ConfigurationError });
  return error?.problems ?? [];
}

export function shownSetting(source: ConfigurationSource, name: string): ShownSetting | undefined {
  return describeSettings(source).find((each) => each.name === name);
}
