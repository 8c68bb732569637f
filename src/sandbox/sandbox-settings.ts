import { readFileSync } from 'node:fs';
import type { ClustersFile } from '../clusters/clusters-file.js';
import type { Configuration } from '../settings/settings.js';
import type { Sandbox } from './sandbox.js';

/** The settings with which a service finds the sandbox's clusters, and connects to nothing else. */
export function clusterSettings(
  sandbox: Pick<Sandbox, 'discoveryUrl' | 'fleetPort' | 'token' | 'systemd'>,
): Configuration['clusters'] & { listed: ClustersFile } {
  const { discoveryUrl, fleetPort } = sandbox;
  return {
    discoveryUrl,
    fleetPort,
    file: undefined,
    allowedHosts: ['127.0.0.0/8'],
    listed: listedIn(sandbox),
  };
}

/** The sandbox's clusters, as if a `CLUSTERS_FILE` named them. */
function listedIn({ token, systemd }: Pick<Sandbox, 'token' | 'systemd'>): ClustersFile {
  const hosts = systemd?.machines.flatMap(({ primaryIP, metadata }) =>
    primaryIP === null ? [] : [{ host: primaryIP, metadata }],
  );
  const names = [token, ...(systemd === undefined ? [] : [systemd.name])];
  return {
    count: names.length,
    endpoints: new Map(),
    machines: new Map(systemd === undefined || hosts === undefined ? [] : [[systemd.name, hosts]]),
    logins: new Map(),
    tokens: new Map(),
    names: new Map(names.map((name) => [name, name])),
    unusable: new Set(),
    problems: [],
  };
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
    // To change units of systemd hosts.
    sudo: true,
  };
}
