import { relative, resolve } from 'node:path';
import type { SourceFile } from 'typescript/unstable/ast';
import { API, type Program, type Snapshot } from 'typescript/unstable/sync';
import type { Edit } from './mutators.js';

/** The sources of a tree as TypeScript sees them, and whether they still compile after an edit. */
export class Sources {
  readonly #root: string;
  readonly #config: string;
  /** The texts that replace those on the disk, by absolute path. */
  readonly #edited = new Map<string, string>();
  readonly #api: API;
  readonly #program: Program;

  /** @param root the folder with the tsconfig.json, absolute */
  constructor(root: string) {
    this.#root = root;
    this.#config = resolve(root, 'tsconfig.json');
    this.#api = new API({ cwd: root, fs: { readFile: (path) => this.#edited.get(path) } });
    this.#program = this.#programOf(this.#api.updateSnapshot({ openProjects: [this.#config] }));
  }

  /** The files below a folder, as paths from the root, sorted. */
  below(folder: string): string[] {
    const files = this.#program.getSourceFileNames().map((path) => relative(this.#root, path));
    return files.filter((file) => file.startsWith(`${folder}/`)).toSorted();
  }

  /** @param file its path from the root */
  get(file: string): SourceFile {
    const source = this.#program.getSourceFile(resolve(this.#root, file));
    if (source === undefined) throw new Error(`${file} is not among the sources of ${this.#config}`);
    return source;
  }

  /** Whether the compiler accepts the file after the edit. A mistake that it refuses needs no test. */
  compiles(file: string, edit: Edit): boolean {
    const path = resolve(this.#root, file);
    this.#edited.set(path, editedText(this.get(file).text, edit));
    const snapshot = this.#api.updateSnapshot({ fileChanges: { changed: [path] } });
    const program = this.#programOf(snapshot);
    const errors = [...program.getSyntacticDiagnostics(path), ...program.getSemanticDiagnostics(path)];
    snapshot.dispose();
    this.#edited.delete(path);
    this.#api.updateSnapshot({ fileChanges: { changed: [path] } }).dispose();
    return errors.length === 0;
  }

  close(): void {
    this.#api.close();
  }

  #programOf(snapshot: Snapshot): Program {
    const project = snapshot.getProject(this.#config);
    if (project === undefined) throw new Error(`${this.#config} cannot be read`);
    return project.program;
  }
}

export function editedText(text: string, { start, end, text: by }: Edit): string {
  return text.slice(0, start) + by + text.slice(end);
}
