import { randomBytes } from 'node:crypto';
import type { Cluster } from '../../api/cluster.js';
import { noteResponse } from '../../api/cluster.js';
import { ActionError } from '../../api/action-error.js';
import { fleetUnitOptions } from '../../api/fleet-unit-text.js';
import { isTemplateName, isUnitName } from '../../api/grammar.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import { unitFileHash } from '../../api/unit-file.js';
import type { UnitFileEntry, UnitFileOptions, UnitFiles, UnitFileText } from '../../api/unit-files.js';
import {
  LIST_FILES_SCRIPT,
  LIST_FILES_SECTIONS,
  MOST_BYTES,
  READ_FILE_SCRIPT,
  READ_FILE_SECTIONS,
  UNREADABLE,
  VENDOR_FOLDERS,
} from './file-scripts.js';
import { askMachines, missingIn, noneReached } from './machine-answers.js';
import { enabledUnits, templateOf } from './operator-units.js';
import { sectionsOf } from '../../api/sections.js';
import { entriesIn, type UnitEntry } from './survey.js';
import { shownPaths } from '../../api/shown-properties.js';
import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from '../../api/operator-folders.js';
import type { SystemdMachine } from './systemd-machine.js';
import { propertiesIn } from './unit-properties.js';

export interface SystemdUnitFilesOptions {
  shell: RemoteShell;
  /** The machines of a cluster. @throws ActionError when it has none */
  machinesOf: (cluster: Cluster) => readonly SystemdMachine[];
}

/** How long one machine has to answer, in milliseconds, without the time to connect. */
const READ_MS = 15_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** The unit files of plain hosts with systemd. */
export class SystemdUnitFiles implements UnitFiles {
  readonly #options: SystemdUnitFilesOptions;

  constructor(options: SystemdUnitFilesOptions) {
    this.#options = options;
  }

  async read(cluster: Cluster, unit: string, options: UnitFileOptions): Promise<UnitFileText[]> {
    const question = { script: READ_FILE_SCRIPT, argument: unit, sections: READ_FILE_SECTIONS };
    const answers = await this.#ask(cluster, options, question);
    return answers.flatMap(({ host, id, parts }) => {
      const read = fileIn(parts.state, parts.files);
      if (read === undefined) return [];
      for (const problem of read.problems) options.warn?.(`${host}: ${problem}`);
      return [{ machine_id: id, host, ...read.file }];
    });
  }

  async list(
    cluster: Cluster,
    { all = false, ...options }: UnitFileOptions & { all?: boolean },
  ): Promise<UnitFileEntry[]> {
    const read = {
      script: LIST_FILES_SCRIPT,
      argument: all ? 'all' : 'own',
      sections: LIST_FILES_SECTIONS,
    };
    const answers = await this.#ask(cluster, options, read);
    return answers
      .flatMap(({ host, id, parts }) =>
        entriesOf(entriesIn(parts.files), new Set(parts.installable.split('\0'))).map((entry) => ({
          ...entry,
          machine_id: id,
          host,
        })),
      )
      .toSorted((one, other) => (one.unit < other.unit ? -1 : one.unit > other.unit ? 1 : 0));
  }

  /** @throws ActionError when no machine answers, or not all do and nobody is to be told */
  async #ask<Section extends string>(
    cluster: Cluster,
    { signal, machines: wanted, warn }: UnitFileOptions,
    { script, argument, sections }: { script: string; argument: string; sections: readonly Section[] },
  ): Promise<{ host: string; id: string; parts: Record<Section | 'machine', string> }[]> {
    const { shell, machinesOf } = this.#options;
    const machines = machinesOf(cluster);
    const { reached, unreachable } = await askMachines(machines, signal, async (host) => {
      const mark = randomBytes(16).toString('hex');
      const { stdout } = await shell.run(host, ['sh', '-c', script, 'sh', mark, argument], {
        signal,
        timeoutMs: READ_MS,
        maxOutputBytes: MAX_OUTPUT_BYTES,
      });
      const parts = sectionsOf<Section | 'machine'>(stdout, mark, sections);
      return { host, id: parts.machine.trim(), parts };
    });
    if (reached.length > 0) noteResponse(cluster);
    else if (unreachable.length > 0) throw noneReached(unreachable);
    const missing = missingIn(unreachable, machines.length);
    if (missing !== undefined && warn === undefined)
      throw new ActionError('cluster_incomplete', missing[0], { details: missing[1] });
    if (missing !== undefined) warn?.(...missing);
    const answers = reached.map(({ answer }) => answer);
    const absent = (wanted ?? []).filter((id) => !answers.some((each) => each.id === id));
    if (absent.length > 0)
      throw new ActionError(
        unreachable.length > 0 ? 'cluster_incomplete' : 'machine_not_found',
        `No machine of the cluster that answers has the id ${absent.join(', ')}`,
        { details: { machine_ids: absent, unreachable } },
      );
    return wanted === undefined ? answers : answers.filter(({ id }) => wanted.includes(id));
  }
}

interface ReadFile {
  file: Omit<UnitFileText, 'machine_id' | 'host'>;
  /** Why a text is not there, in sentences for people. */
  problems: string[];
}

/** @returns undefined when the machine has no file of the unit */
function fileIn(state: string, files: string): ReadFile | undefined {
  const properties = propertiesIn(state);
  const lines = files.split('\n');
  const texts = new Map<string, string | null>();
  const problems: string[] = [];
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [path = '', printed = ''] = lines.slice(at, at + 2);
    const text = textOf(printed);
    texts.set(path, text ?? null);
    if (text === undefined) problems.push(`${path} ${whyNoText(printed)}`);
  }
  const path = properties?.get('FragmentPath') || [...texts.keys()][0];
  const text = path === undefined ? undefined : texts.get(path);
  if (path === undefined || text === undefined) return undefined;
  const sourcePath = properties?.get('SourcePath') ?? '';
  const dropIns = (shownPaths(properties?.get('DropInPaths')) ?? []).map((each) => {
    const read = texts.get(each);
    if (read === undefined) problems.push(`${each}, which systemd has read, is not there any more`);
    return { path: each, text: read ?? null };
  });
  const needsReload = properties?.get('NeedDaemonReload');
  const file = {
    path,
    text,
    source: sourcePath === '' ? null : { path: sourcePath, text: texts.get(sourcePath) ?? null },
    drop_ins: dropIns,
    hash: text === null ? null : hashOf(text),
    is_current: needsReload === undefined ? null : needsReload === 'no',
  };
  return { file, problems };
}

/** @returns undefined when it cannot be told */
function textOf(printed: string): string | undefined {
  if (printed === UNREADABLE) return undefined;
  const bytes = Buffer.from(printed, 'base64');
  if (bytes.length > MOST_BYTES) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function whyNoText(printed: string): string {
  if (printed === UNREADABLE) return 'may not be read by the login of the service';
  return Buffer.from(printed, 'base64').length > MOST_BYTES
    ? `has more than ${MOST_BYTES} bytes, and is not read`
    : 'is not UTF-8';
}

/** The unit files of a machine; of several with one name that which systemd uses. */
function entriesOf(
  entries: readonly UnitEntry[],
  installable: ReadonlySet<string>,
): { unit: string; path: string; state: string }[] {
  const enabled = enabledUnits(entries);
  const found = new Map<string, { unit: string; path: string; state: string }>();
  // systemd.unit(5): in the order of precedence.
  const folders = [
    OPERATOR_FOLDERS[0],
    OPERATOR_FOLDERS[1],
    TRANSIENT,
    OPERATOR_FOLDERS[2],
    ...VENDOR_FOLDERS,
    GENERATED,
  ];
  for (const folder of folders)
    for (const { type, path, link, size } of entries) {
      const unit = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : '';
      if (unit.includes('/') || found.has(unit) || !(isUnitName(unit) || isTemplateName(unit))) continue;
      if (type !== 'f' && type !== 'l') continue;
      const isMask = link === '/dev/null' || (type === 'f' && size === 0);
      const target = link.slice(link.lastIndexOf('/') + 1);
      const isEnabled = [...enabled].some((each) => each === unit || templateOf(each) === unit);
      const state = isMask
        ? 'masked'
        : type === 'l' && target !== unit
          ? 'alias'
          : folder === GENERATED
            ? 'generated'
            : folder === TRANSIENT
              ? 'transient'
              : isEnabled
                ? 'enabled'
                : type === 'l'
                  ? 'linked'
                  : installable.has(path)
                    ? 'disabled'
                    : 'static';
      found.set(unit, { unit, path, state });
    }
  return [...found.values()];
}

/** @returns null when fleet could not keep it */
function hashOf(text: string): string | null {
  const { options, problems } = fleetUnitOptions(text);
  return problems.some(({ isRefused }) => isRefused) ? null : unitFileHash(options);
}
