import { randomBytes } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { UnitText } from '../../api/unit-control.js';
import type { BootAge } from './machine-requests.js';
import { CHECK_FILES_SCRIPT, CHECK_SECTIONS } from './put-script.js';
import { sectionsOf } from '../../api/sections.js';

/** What a machine says of new unit files. */
export interface FileCheck {
  age: BootAge;
  /** For each file what it replaces: its text; null: nothing. */
  present: (Buffer | null)[];
  /** The units whose file is a link, and where it leads: `/dev/null` masks the unit. */
  links: { unit: string; target: string }[];
  /** The units that have something else than a file there, or one of more than 1 MiB. */
  others: string[];
  /** The units of which systemd takes another file first, and which. */
  hidden: { unit: string; by: string }[];
  /** Why systemd does not accept the files; empty: it does. */
  problems: string[];
  /** What it says, and yet accepts them. */
  warnings: string[];
}

const CHECK_MS = 30_000;
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;

/** Has a machine check new unit files, and changes nothing. @throws ActionError when the machine cannot be asked */
export async function checkFiles(
  shell: RemoteShell,
  host: string,
  files: readonly UnitText[],
  signal: AbortSignal,
): Promise<FileCheck> {
  const mark = randomBytes(16).toString('hex');
  const args = files.flatMap(({ unit, text }) => [unit, Buffer.from(text).toString('base64')]);
  const { stdout } = await shell.run(host, ['sh', '-c', CHECK_FILES_SCRIPT, 'sh', mark, ...args], {
    signal,
    timeoutMs: CHECK_MS,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  });
  try {
    return readCheck(sectionsOf(stdout, mark, CHECK_SECTIONS), files);
  } catch (cause) {
    throw new ActionError('command_failed', `${host} did not check the files as it should`, { cause });
  }
}

function readCheck(
  { machine, files, verify, drop_ins: dropIns }: Record<(typeof CHECK_SECTIONS)[number], string>,
  units: readonly UnitText[],
): FileCheck {
  const [bootID = '', uptime = ''] = machine.split('\n');
  const lines = files.split('\n');
  const found = units.map(({ unit }, index) => {
    const [, kind = '', rest = ''] = /^(\w+) ?([^]*)$/.exec(lines[index] ?? '') ?? [];
    return { unit, kind, rest };
  });
  const of = (wanted: string) => found.filter(({ kind }) => kind === wanted);
  const [status = '', ...said] = verify.trim().split('\n');
  const texts = said.filter((line) => line !== '');
  const overridden = of('none').flatMap(({ unit, rest: path }) =>
    path === '' ? [] : [`${unit}: this file overrides ${path}`],
  );
  const changed = dropIns
    .split('\n')
    .flatMap((line) => (line === '' ? [] : [line.replace(' ', ': drop-ins change it too: ')]));
  const forFleet = units.flatMap(({ unit, text }) =>
    /^\[X-Fleet\]/m.test(text) ? [`${unit}: systemd ignores the section [X-Fleet]`] : [],
  );
  const isRefused = status !== '0' && status !== 'none';
  return {
    age: { bootID, uptimeSeconds: Number.parseFloat(uptime) },
    present: found.map(({ kind, rest }) => (kind === 'file' ? Buffer.from(rest, 'base64') : null)),
    links: of('link').map(({ unit, rest: target }) => ({ unit, target })),
    others: of('other').map(({ unit }) => unit),
    hidden: of('first').map(({ unit, rest: by }) => ({ unit, by })),
    problems: isRefused ? (texts.length > 0 ? texts : [`systemd-analyze ended with status ${status}`]) : [],
    warnings: isRefused ? [] : [...texts, ...overridden, ...changed, ...forFleet],
  };
}
