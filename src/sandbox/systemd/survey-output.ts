import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from '../../api/operator-folders.js';
import type { CommandResult } from '../simulated-machine.js';
import type { SimulatedHost } from './simulated-host.js';

const FOLDERS = [...OPERATOR_FOLDERS, GENERATED, TRANSIENT];
/** Larger files are not read. */
const MAX_FILE_BYTES = 256 * 1024;

/** What `SURVEY_SCRIPT` prints on a simulated machine. */
export function surveyOutput(host: SimulatedHost, [mark = '']: readonly string[]): CommandResult {
  const { folders } = host.systemd;
  const entries = folders.entriesIn(FOLDERS);
  const files = entries.map(({ type, size, path, link }) => `${type} ${size}\0${path}\0${link}\0`).join('');
  const texts = entries
    .filter(
      ({ type, size, path }) =>
        type !== 'd' && size <= MAX_FILE_BYTES && FOLDERS.some((folder) => isIn(folder, path)),
    )
    .flatMap(({ path }) => linesOf(folders.textAt(path) ?? '').map((line) => `${path}\0${line}\n`))
    .join('');
  const sections = {
    machine: `${host.id}\n${host.text('/proc/sys/kernel/random/boot_id')}${host.uptime()}\nsystemd 252 (252.39-1~deb12u2)\n`,
    loaded: host.listUnits(),
    files,
    text: texts,
    end: '',
  };
  return { status: 0, stdout: sectionsText(mark, Object.entries(sections)) };
}

/** The parts of what a script prints, each after a line with the mark and its name. */
export function sectionsText(
  mark: string,
  sections: readonly (readonly [name: string, text: string])[],
): string {
  return sections.map(([name, text]) => `\n${mark} ${name}\n${text}`).join('');
}

/** Files and links in the folder itself, such as `web.service`. */
function isIn(folder: string, path: string): boolean {
  const name = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : '';
  return name.includes('.') && !name.includes('/');
}

function linesOf(text: string): string[] {
  const lines = text.split('\n');
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines;
}
