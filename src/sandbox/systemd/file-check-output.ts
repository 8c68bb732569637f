import type { CommandResult } from '../simulated-machine.js';
import type { SimulatedHost } from './simulated-host.js';
import { NOT_EXECUTABLE } from './simulated-program.js';
import { sectionsText } from './survey-output.js';
import { OPERATOR_FOLDER } from './unit-folders.js';
import { unitSettings } from './unit-settings.js';

/** What `CHECK_FILES_SCRIPT` prints on a simulated machine. */
export function fileCheckOutput(
  host: SimulatedHost,
  [mark = '', ...given]: readonly string[],
): CommandResult {
  const present: string[] = [];
  const problems: string[] = [];
  for (let at = 0; at + 1 < given.length; at += 2) {
    const [unit = '', text = ''] = given.slice(at, at + 2);
    present.push(presentFile(host, unit));
    problems.push(...problemsOf(host, unit, Buffer.from(text, 'base64').toString()));
  }
  const sections = {
    machine: `${host.text('/proc/sys/kernel/random/boot_id')}${host.uptime()}\n`,
    files: present.map((line) => `${line}\n`).join(''),
    drop_ins: '',
    verify: `${problems.length > 0 ? 1 : 0}\n${problems.join('\n')}\n`,
    end: '',
  };
  return { status: 0, stdout: sectionsText(mark, Object.entries(sections)) };
}

function presentFile({ systemd: { folders } }: SimulatedHost, unit: string): string {
  const path = `${OPERATOR_FOLDER}/${unit}`;
  const target = folders.linkAt(path);
  if (target !== undefined) return `link ${target}`;
  const text = folders.textAt(path);
  return text === undefined
    ? `none ${folders.fragmentOf(unit)?.path ?? ''}`
    : `file ${Buffer.from(text).toString('base64')}`;
}

/** What `systemd-analyze verify` finds, in its words, of what the simulation knows of unit files. */
function problemsOf(host: SimulatedHost, unit: string, text: string): string[] {
  if (text === '') return [`Unit ${unit} is masked.`];
  const { load, program, needs } = unitSettings(unit, { path: unit, text, dropIns: [] });
  if (load === 'error') {
    const lines = text.split('\n');
    const at = lines.findIndex((line) => /^\[[^\]]*$/.test(line.trim()));
    return [
      `${unit}:${at + 1}: Invalid section header '${lines[at]?.trim()}'`,
      `Unit ${unit} failed to load properly, please adjust/correct and reload service manager: Bad message`,
    ];
  }
  if (load === 'bad-setting')
    return [
      `${unit}: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.`,
      `Unit ${unit} has a bad unit file setting.`,
    ];
  const missing = needs.find((need) => host.systemd.unit(need).settings.load === 'not-found');
  if (missing !== undefined) return [`${unit}: Failed to create ${unit}/start: Unit ${missing} not found.`];
  if (program.status !== NOT_EXECUTABLE) return [];
  const path = /^ExecStart=[-@:+!]*(\S+)/m.exec(text)?.[1] ?? '';
  return [`${unit}: Command ${path} is not executable: No such file or directory`];
}
