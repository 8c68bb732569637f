/** A file or a link in a folder of units. */
type Entry = { type: 'f'; text: string } | { type: 'l'; target: string };

/** An entry as `find` shows it. */
export interface FoundEntry {
  /** `d`: a folder. */
  type: 'd' | 'f' | 'l';
  /** In bytes; of a link that of its target's name. */
  size: number;
  path: string;
  /** Empty: it is no link. */
  link: string;
}

/** The file of a unit, or of its template. */
export interface UnitFragment {
  path: string;
  /** With its drop-ins; undefined: the unit is masked. */
  text: string | undefined;
  dropIns: readonly string[];
}

/** The folders in which systemd looks for a unit, those that win first (systemd.unit(5)); `/lib` is Debian's `/usr/lib`. */
const SEARCHED = [
  '/run/systemd/transient',
  '/etc/systemd/system',
  '/run/systemd/system',
  '/run/systemd/generator',
  '/usr/local/lib/systemd/system',
  '/lib/systemd/system',
] as const;

export const OPERATOR_FOLDER = '/etc/systemd/system';

/** The unit files of a simulated machine. */
export class UnitFolders {
  readonly #entries = new Map<string, Entry>();

  write(path: string, text: string): void {
    this.#entries.set(path, { type: 'f', text });
  }

  link(path: string, target: string): void {
    this.#entries.set(path, { type: 'l', target });
  }

  /** @returns whether there was such a file or link */
  remove(path: string): boolean {
    return this.#entries.delete(path);
  }

  has(path: string): boolean {
    return this.#entries.has(path);
  }

  /** Where a link leads, as it is written; undefined: it is none. */
  linkAt(path: string): string | undefined {
    const entry = this.#entries.get(path);
    return entry?.type === 'l' ? entry.target : undefined;
  }

  /** The text of a file, also by a link to it. */
  textAt(path: string): string | undefined {
    const entry = this.#entries.get(path);
    return entry?.type === 'l' ? this.textAt(absolute(path, entry.target)) : entry?.text;
  }

  /** What is in these folders and one level below, as `find FOLDER... -maxdepth 2` shows it. */
  entriesIn(folders: readonly string[]): FoundEntry[] {
    return folders.flatMap((folder) => {
      const inside = [...this.#entries].filter(([path]) => path.startsWith(`${folder}/`)).toSorted(byPath);
      if (inside.length === 0) return [];
      const parents = new Set([folder, ...inside.map(([path]) => folderOf(path))]);
      return [
        ...[...parents].map((path) => ({ type: 'd' as const, size: 4_096, path, link: '' })),
        ...inside.map(([path, entry]) => foundEntry(path, entry)),
      ];
    });
  }

  /** The name of the unit that a name is an alias of; the name itself when it is none. */
  aliased(name: string): string {
    for (const folder of SEARCHED) {
      const target = this.linkAt(`${folder}/${name}`);
      const other = target?.slice(target.lastIndexOf('/') + 1);
      if (other !== undefined && other !== name && target !== '/dev/null') return other;
      if (this.has(`${folder}/${name}`)) return name;
    }
    return name;
  }

  /** The file of a unit; undefined: it has none. */
  fragmentOf(name: string): UnitFragment | undefined {
    for (const each of [name, templateOf(name)]) {
      if (each === undefined) continue;
      const folder = SEARCHED.find((candidate) => this.has(`${candidate}/${each}`));
      if (folder === undefined) continue;
      const path = `${folder}/${each}`;
      const text = this.linkAt(path) === '/dev/null' ? '' : this.textAt(path);
      if (text === undefined) continue;
      const dropIns = this.#dropInsOf(name);
      // An empty file masks a unit too.
      if (text === '') return { path, text: undefined, dropIns };
      const texts = [text, ...dropIns.map((dropIn) => this.textAt(dropIn) ?? '')];
      return { path, text: texts.join('\n'), dropIns };
    }
    return undefined;
  }

  /** The units that a unit wants or requires by links in its folders, such as `multi-user.target.wants`. */
  wantedBy(name: string): string[] {
    return this.linksTo((folder) => folder === `${name}.wants` || folder === `${name}.requires`).map(
      baseName,
    );
  }

  /** The units that want or require a unit, by its links in their folders. */
  wanting(name: string, kind: 'wants' | 'requires'): string[] {
    const suffix = `.${kind}`;
    const links = this.linksTo((folder) => folder.endsWith(suffix)).filter((path) => baseName(path) === name);
    return [...new Set(links.map((path) => baseName(folderOf(path)).slice(0, -suffix.length)))];
  }

  /** The paths of the links by which a unit is enabled. */
  enablingLinks(name: string): string[] {
    return this.linksTo((folder) => /\.(?:wants|requires|upholds)$/.test(folder)).filter(
      (path) => baseName(path) === name && path.startsWith(`${OPERATOR_FOLDER}/`),
    );
  }

  /** The paths of the links in folders with such names. */
  linksTo(accepts: (folder: string) => boolean): string[] {
    return [...this.#entries]
      .filter(([path, { type }]) => type === 'l' && accepts(baseName(folderOf(path))))
      .map(([path]) => path);
  }

  #dropInsOf(name: string): string[] {
    return SEARCHED.flatMap((folder) =>
      [...this.#entries.keys()].filter(
        (path) => folderOf(path) === `${folder}/${name}.d` && path.endsWith('.conf'),
      ),
    ).toSorted((one, other) => (baseName(one) < baseName(other) ? -1 : 1));
  }
}

/** The template of an instance, such as `web@.service` of `web@1.service`. */
function templateOf(name: string): string | undefined {
  const match = /^([^@]+@).+(\.[^.]+)$/.exec(name);
  return match === null ? undefined : `${match[1]}${match[2]}`;
}

function foundEntry(path: string, entry: Entry): FoundEntry {
  if (entry.type === 'l')
    return { type: 'l', size: Buffer.byteLength(entry.target), path, link: entry.target };
  return { type: 'f', size: Buffer.byteLength(entry.text), path, link: '' };
}

function absolute(path: string, target: string): string {
  return target.startsWith('/') ? target : `${folderOf(path)}/${target}`;
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function byPath([one]: readonly [string, Entry], [other]: readonly [string, Entry]): number {
  return one < other ? -1 : 1;
}
