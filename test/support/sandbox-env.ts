import type { Sandbox } from '../../src/sandbox/sandbox.js';

/** The settings of a worker that serves the clusters of a sandbox, whose machines have an SSH server. */
export function sandboxEnv({ discoveryUrl, fleetPort, ssh }: Sandbox): Record<string, string> {
  if (ssh === undefined) throw new Error('the machines have no SSH server');
  return {
    ETCD_DISCOVERY_URL: discoveryUrl,
    FLEET_API_PORT: String(fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
    SSH_USER: ssh.user,
    SSH_PORT: String(ssh.port),
    SSH_KEY_FILE: ssh.privateKeyFile,
    SSH_KNOWN_HOSTS: ssh.knownHostsFile,
  };
}
