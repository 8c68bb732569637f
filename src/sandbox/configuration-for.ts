import { readFileSync } from 'node:fs';
import type { Configuration } from '../settings/configuration.js';
import type { Sandbox } from './sandbox.js';

/** The same configuration, with which a service finds a sandbox's clusters and reaches nothing else. */
export function configurationFor(sandbox: Sandbox, configuration: Configuration): Configuration {
  const { discoveryUrl, fleetPort } = sandbox;
  return {
    ...configuration,
    discoveryUrl,
    fleetPort,
    clusters: undefined,
    allowedHosts: ['127.0.0.0/8'],
    ssh: sshOf(sandbox, configuration),
  };
}

/** How the sandbox's machines let the service in. */
function sshOf({ ssh }: Sandbox, configuration: Configuration): Configuration['ssh'] {
  if (ssh === undefined) return configuration.ssh;
  const { user, port, knownHostsFile } = ssh;
  const privateKey = readFileSync(ssh.privateKeyFile);
  return {
    user,
    port,
    knownHostsFile,
    privateKey,
    passphrase: undefined,
    agentSocket: undefined,
    hostKeys: 'strict',
    sudo: false,
  };
}
