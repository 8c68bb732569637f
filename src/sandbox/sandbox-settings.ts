import { readFileSync } from 'node:fs';
import type { Configuration } from '../settings/settings.js';
import type { Sandbox } from './sandbox.js';

/** The settings with which a service finds the sandbox's clusters, and connects to nothing else. */
export function clusterSettings({ discoveryUrl, fleetPort }: Sandbox): Configuration['clusters'] {
  return { discoveryUrl, fleetPort, file: undefined, allowedHosts: ['127.0.0.0/8'] };
}

/** How to log in to the sandbox's machines; undefined: they accept no commands. */
export function sshSettings({ ssh }: Sandbox): Configuration['ssh'] | undefined {
  if (ssh === undefined) return undefined;
  return {
    user: ssh.user,
    port: ssh.port,
    privateKey: readFileSync(ssh.privateKeyFile),
    passphrase: undefined,
    agentSocket: undefined,
    knownHostsFile: ssh.knownHostsFile,
    hostKeys: 'strict',
    sudo: false,
  };
}
