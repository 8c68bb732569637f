import type { SimulatedSystemd } from './simulated-systemd.js';

type State = readonly [active: 'active' | 'inactive', sub: string];

const RUNNING: State = ['active', 'running'];
const EXITED: State = ['active', 'exited'];
const REACHED: State = ['active', 'active'];
const LISTENING: State = ['active', 'listening'];
const DOWN: State = ['inactive', 'dead'];

/** Some units of Debian 12, with their descriptions and states on a machine that is up. */
const UNITS: readonly (readonly [name: string, description: string, state: State])[] = [
  ['-.mount', 'Root Mount', ['active', 'mounted']],
  [
    'systemd-ask-password-wall.path',
    'Forward Password Requests to Wall Directory Watch',
    ['active', 'waiting'],
  ],
  ['init.scope', 'System and Service Manager', RUNNING],
  ['cron.service', 'Regular background program processing daemon', RUNNING],
  ['dbus.service', 'D-Bus System Message Bus', RUNNING],
  ['emergency.service', 'Emergency Shell', DOWN],
  ['getty@tty1.service', 'Getty on tty1', RUNNING],
  ['rescue.service', 'Rescue Shell', DOWN],
  ['ssh.service', 'OpenBSD Secure Shell server', RUNNING],
  ['systemd-journald.service', 'Journal Service', RUNNING],
  ['systemd-logind.service', 'User Login Management', RUNNING],
  ['systemd-sysctl.service', 'Apply Kernel Variables', EXITED],
  ['systemd-timesyncd.service', 'Network Time Synchronization', RUNNING],
  ['systemd-tmpfiles-setup.service', 'Create System Files and Directories', EXITED],
  ['systemd-udevd.service', 'Rule-based Manager for Device Events and Files', RUNNING],
  ['-.slice', 'Root Slice', REACHED],
  ['system.slice', 'System Slice', REACHED],
  ['user.slice', 'User and Session Slice', REACHED],
  ['dbus.socket', 'D-Bus System Message Bus Socket', ['active', 'running']],
  ['systemd-initctl.socket', 'initctl Compatibility Named Pipe', LISTENING],
  ['systemd-journald.socket', 'Journal Socket', ['active', 'running']],
  ['basic.target', 'Basic System', REACHED],
  ['getty.target', 'Login Prompts', REACHED],
  ['graphical.target', 'Graphical Interface', REACHED],
  ['local-fs.target', 'Local File Systems', REACHED],
  ['multi-user.target', 'Multi-User System', REACHED],
  ['network-online.target', 'Network is Online', REACHED],
  ['network.target', 'Network', REACHED],
  ['shutdown.target', 'System Shutdown', DOWN],
  ['sockets.target', 'Socket Units', REACHED],
  ['sysinit.target', 'System Initialization', REACHED],
  ['timers.target', 'Timer Units', REACHED],
  ['apt-daily.timer', 'Daily apt download activities', ['active', 'waiting']],
  ['systemd-tmpfiles-clean.timer', 'Daily Cleanup of Temporary Directories', ['active', 'waiting']],
];

/** Units of the distribution that an installation enables by links in `/etc`. */
const ENABLED: Readonly<Record<string, string>> = {
  'cron.service': 'multi-user.target.wants',
  'ssh.service': 'multi-user.target.wants',
  'systemd-timesyncd.service': 'sysinit.target.wants',
  'apt-daily.timer': 'timers.target.wants',
};

const FOLDER = '/lib/systemd/system';

/** Gives a simulated machine the units of its distribution. @param at when it was booted, in milliseconds of the clock */
export function installDistribution(systemd: SimulatedSystemd, at: number): void {
  const { folders } = systemd;
  for (const [name, description, state] of UNITS) {
    const isTemplate = name.includes('@');
    const file = `${FOLDER}/${isTemplate ? name.replace(/@.*\./, '@.') : name}`;
    const has = /\.(?:scope|mount)$/.test(name) ? '/run/systemd/transient' : '';
    if (has === '') folders.write(file, fileOf(name, description, isTemplate));
    systemd.adopt(name, { at, isKept: true, state });
    const wants = ENABLED[name];
    if (wants !== undefined) folders.link(`/etc/systemd/system/${wants}/${name}`, file);
  }
  folders.link('/etc/systemd/system/getty.target.wants/getty@tty1.service', `${FOLDER}/getty@.service`);
  folders.link('/etc/systemd/system/sshd.service', `${FOLDER}/ssh.service`);
}

function fileOf(name: string, description: string, isTemplate: boolean): string {
  const title = isTemplate ? description.replace(/tty1$/, '%I') : description;
  const unit = `[Unit]\nDescription=${title}\n`;
  const program = name.replace(/(?:@.*)?\.service$/, '');
  if (name.endsWith('.service')) return `${unit}\n[Service]\nExecStart=/usr/sbin/${program}\n`;
  if (name.endsWith('.socket')) return `${unit}\n[Socket]\nListenStream=/run/${program}\n`;
  return name.endsWith('.timer') ? `${unit}\n[Timer]\nOnCalendar=daily\n` : unit;
}
