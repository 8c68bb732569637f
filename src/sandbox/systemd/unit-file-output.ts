import { VENDOR_FOLDERS } from '../../clusters/systemd/file-scripts.js';
import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from '../../api/operator-folders.js';
import { shownPaths } from '../../api/shown-properties.js';
import type { CommandResult } from '../simulated-machine.js';
import type { SimulatedHost } from './simulated-host.js';
import { sectionsText } from './survey-output.js';

const OWN = [...OPERATOR_FOLDERS, GENERATED, TRANSIENT];

/** What `READ_FILE_SCRIPT` prints on a simulated machine. */
export function fileReadOutput(
  host: SimulatedHost,
  [mark = '', unit = '']: readonly string[],
): CommandResult {
  const { folders } = host.systemd;
  const properties = 'LoadState,FragmentPath,SourcePath,DropInPaths,NeedDaemonReload';
  const shown = host.shown(unit, properties);
  const read = /^FragmentPath=(.+)$/m.exec(shown)?.[1];
  const path =
    read ??
    [...OWN, ...VENDOR_FOLDERS].map((folder) => `${folder}/${unit}`).find((each) => folders.has(each));
  const source = /^SourcePath=(.+)$/m.exec(shown)?.[1];
  const dropIns = shownPaths(/^DropInPaths=(.+)$/m.exec(shown)?.[1]) ?? [];
  const files = [path, source, ...dropIns].flatMap((each) => {
    const text = each === undefined ? undefined : folders.textAt(each);
    return text === undefined ? [] : [`${each}\n${Buffer.from(text).toString('base64')}\n`];
  });
  const sections = { machine: `${host.id}\n`, state: `${shown}\n`, files: files.join(''), end: '' };
  return { status: 0, stdout: sectionsText(mark, Object.entries(sections)) };
}

/** What `LIST_FILES_SCRIPT` prints on a simulated machine. */
export function fileListOutput(
  host: SimulatedHost,
  [mark = '', which = '']: readonly string[],
): CommandResult {
  const { folders } = host.systemd;
  const entries = folders.entriesIn(which === 'all' ? [...OWN, ...VENDOR_FOLDERS] : OWN);
  const installable = entries.filter(({ path }) => /^\[Install\]/m.test(folders.textAt(path) ?? ''));
  const sections = {
    machine: `${host.id}\n`,
    files: entries.map(({ type, size, path, link }) => `${type} ${size}\0${path}\0${link}\0`).join(''),
    installable: installable.map(({ path }) => `${path}\0`).join(''),
    end: '',
  };
  return { status: 0, stdout: sectionsText(mark, Object.entries(sections)) };
}
