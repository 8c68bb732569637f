import type { UnitVerb } from '../../../src/api/unit-control.js';
import type { SystemdMachine } from '../../support/systemd-machines.js';

/** A change that can be made of a unit of systemd. */
export type Change = Exclude<UnitVerb, 'load' | 'unload'> | 'put' | 'destroy';

interface CountedChange {
  before: 'inactive' | 'active' | 'enabled' | 'failed';
  /** What it adds to the file of its effects. With the last one it waits until the gate of the machine opens. */
  effects: readonly string[];
  did: string;
}

/** For each change a unit of its own writes its starts, stops and reloads to a file; what does not run the unit, `systemctl` writes. */
export const COUNTED: Readonly<Record<Change, CountedChange>> = {
  start: { before: 'inactive', effects: ['start'], did: 'started' },
  stop: { before: 'active', effects: ['stop'], did: 'stopped' },
  restart: { before: 'active', effects: ['stop', 'start'], did: 'restarted' },
  reload: { before: 'active', effects: ['reload'], did: 'reloaded' },
  enable: { before: 'inactive', effects: ['enable'], did: 'enabled' },
  disable: { before: 'enabled', effects: ['disable'], did: 'disabled' },
  'reset-failed': { before: 'failed', effects: ['reset-failed'], did: 'reset' },
  put: { before: 'active', effects: ['stop', 'start'], did: 'replaced' },
  destroy: { before: 'active', effects: ['stop'], did: 'stopped and removed' },
};

export const CHANGES = Object.keys(COUNTED) as Change[];
const UNITS = CHANGES.map(unitOf).join(' ');

export function unitOf(change: Change): string {
  return `to-${change}.service`;
}

/** The text of its unit's file. */
export function textOf(change: Change): string {
  return `[Service]
ExecStartPre=/usr/local/bin/effect %n start
ExecStart=${COUNTED[change].before === 'failed' ? '/bin/false' : '/bin/sleep infinity'}
ExecReload=/usr/local/bin/effect %n reload
ExecStop=/usr/local/bin/effect %n stop
TimeoutSec=infinity
[Install]
WantedBy=none.target
`;
}

function lastEffect(change: Change): string {
  return COUNTED[change].effects.at(-1) ?? '';
}

// What stops when the machine shuts down is no effect of a change.
const EFFECT = `[ "$2" = stop ] && [ "$(/usr/bin/systemctl is-system-running)" = stopping ] && exit 0
echo "$2" >>"/var/effects/$1"
case "$1 $2" in ${CHANGES.map((change) => `'${unitOf(change)} ${lastEffect(change)}'`).join(' | ')})
  flock -s /var/gate true ;;
esac`;
const SYSTEMCTL = `/usr/bin/systemctl "$@"
status=$?
case "$*" in ${(['enable', 'disable', 'reset-failed'] as const)
  .map((change) => `'${change} -- ${unitOf(change)}'`)
  .join(' | ')})
  /usr/local/bin/effect "$3" "$1" ;;
esac
exit "$status"`;

/** Makes the units ready for one change of each; the gate is open. */
export async function prepareUnits(machine: SystemdMachine): Promise<void> {
  const unitsThat = (...states: CountedChange['before'][]) =>
    CHANGES.filter((change) => states.includes(COUNTED[change].before))
      .map(unitOf)
      .join(' ');
  await machine.installCommand('effect', EFFECT);
  await machine.installCommand('systemctl', SYSTEMCTL);
  await machine.run(`PATH=/usr/bin:/bin
    rm -f /usr/local/bin/systemd-run
    systemctl stop gate || true
    mkdir -p /var/effects
    ${CHANGES.map((change) => `cat >/etc/systemd/system/${unitOf(change)} <<'END'\n${textOf(change)}END\n`).join('')}
    systemctl daemon-reload
    systemctl stop ${UNITS}
    systemctl reset-failed
    systemctl disable -q ${UNITS}
    systemctl enable -q ${unitsThat('enabled')}
    systemctl start ${unitsThat('active')}
    until systemctl is-failed -q ${unitsThat('failed')}; do systemctl start ${unitsThat('failed')} || true; sleep 0.1; done
    rm -f /var/effects/*`);
}

/** Changes wait at the gate of the machine until it opens, or the machine is booted: nobody holds a lock over that. */
export async function closeGate(machine: SystemdMachine): Promise<void> {
  await machine.run(`/usr/bin/systemd-run -q --unit=gate flock /var/gate sleep infinity
    while flock -n -s /var/gate true; do sleep 0.1; done`);
}

export async function openGate(machine: SystemdMachine): Promise<void> {
  await machine.run('systemctl stop gate');
}

/** Lets a first delivery order its change when the repeated one has seen that it has not begun, and that one when it is done. */
export async function delayRepeatedOrders(machine: SystemdMachine): Promise<void> {
  await machine.installCommand(
    'systemd-run',
    `key=$(expr "$*" : '.*--unit=fm-\\([0-9a-f]*\\)')
if tr '\\0' '\\n' <"/proc/$PPID/cmdline" | grep -qx repeated; then
  touch "/run/$key"
  until [ -e "/var/lib/fleet-manager/requests/$key/done" ]; do sleep 0.1; done
else
  until [ -e "/run/$key" ]; do sleep 0.1; done
fi
exec /usr/bin/systemd-run "$@"`,
  );
}

/** Returns when all changes are at the gate, and a repeated request waits on the machine for each. */
export async function untilAllAtGate(machine: SystemdMachine): Promise<void> {
  const atGate = CHANGES.map(
    (change) => `grep -qsx ${lastEffect(change)} /var/effects/${unitOf(change)}`,
  ).join(' && ');
  // The arguments of the script of a request: MARK KEY repeated.
  await machine.run(`waiting() {
      cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -B2 -x repeated | grep -Ex '[0-9a-f]{32}' | sort -u | wc -l
    }
    until ${atGate} && [ "$(waiting)" -ge ${CHANGES.length} ]; do sleep 0.2; done`);
}

/** The effects since the units were prepared, in their order, separated by blanks. */
export async function effectsOn(machine: SystemdMachine): Promise<(change: Change) => string> {
  const lines = await machine.run(
    `cd /var/effects; for each in ${UNITS}; do echo $(cat $each 2>/dev/null); done`,
  );
  const effects = lines.split('\n');
  return (change) => effects[CHANGES.indexOf(change)] ?? '';
}
