import { ActionError } from '../api/action-error.js';
import { fieldsOf } from '../lib/fields-of.js';
import { failure, type LoginSettings, type MachineProblem } from './machine-problem.js';

/**
 * The problem with a machine that runs no command.
 * @throws `error` itself, when the shell did not throw it
 */
export function loginProblem(error: unknown, settings: LoginSettings): MachineProblem {
  if (!(error instanceof ActionError)) throw error;
  return failure(textOf(error), remedyFor(error, settings));
}

function textOf({ message, details }: ActionError): string {
  const { keyType, fingerprint } = fieldsOf(details);
  return typeof fingerprint === 'string' ? `${message} (${String(keyType)} ${fingerprint})` : message;
}

function remedyFor({ code, message, details }: ActionError, settings: LoginSettings): string {
  const { user, port, sudo, own } = settings;
  const portSetting = own?.port === true ? 'its port in CLUSTERS_FILE' : 'SSH_PORT';
  const userSetting = own?.user === true ? 'its user in CLUSTERS_FILE' : 'SSH_USER';
  const login = `ssh -p ${port} ${user}@HOST`;
  switch (code) {
    case 'forbidden':
      return 'add HOST to ALLOWED_HOSTS';
    case 'login_refused':
      if (fieldsOf(details).reason === 'closed')
        return `check the account of ${user} there (chage -l ${user}; /etc/nologin; what PAM allows) and the log of sshd; try \`${login}\``;
      return `check ${userSetting} (${user}) and the key: its public part has to be in ~${user}/.ssh/authorized_keys there; try \`${login}\``;
    case 'host_key_refused':
      return hostKeyRemedy(fieldsOf(details).reason, settings);
    case 'host_unreachable':
      if (fieldsOf(details).reason === 'not_ready')
        return 'wait until HOST is up; if it stays like this: systemctl status systemd-user-sessions, systemctl list-jobs';
      return `check that the machine is up, that its SSH server listens on ${portSetting} (${port}), and that no firewall is between`;
    case 'command_failed':
      if (/\b(?:env|timeout) is not installed$/.test(message))
        return 'install it there (GNU coreutils, or busybox): the service runs every command by env and timeout';
      return sudo && message.includes('sudo')
        ? `allow ${user} to run sh by sudo there without a password (in sudoers: ${user} ALL=(root) NOPASSWD: /bin/sh), or set SSH_SUDO=false`
        : `\`${login} echo ok\` has to print ok; check the login shell of ${user} and its start files there`;
    default:
      return `find out where \`${login} true\` hangs`;
  }
}

function hostKeyRemedy(reason: unknown, { port, knownHostsFile: file }: LoginSettings): string {
  const scan = `ssh-keyscan -p ${port} HOST >> ${file}`;
  const compare =
    'compare the fingerprint with that on the machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub';
  switch (reason) {
    case 'changed': {
      const name = port === 22 ? 'HOST' : `'[HOST]:${port}'`;
      return `another machine may answer there; if it was installed anew: ssh-keygen -R ${name} -f ${file}; ${scan}; and ${compare}`;
    }
    case 'revoked':
      return `a key marked @revoked in ${file} must not be used: make a new host key on the machine`;
    case 'no_accepted_type':
      return `the machine has none of the key types in ${file}: ${scan}; and ${compare}`;
    case 'known_hosts_unusable':
      return 'see known_hosts above';
    default:
      return `${scan}; and ${compare}`;
  }
}
