import { readdir, readFile } from 'node:fs/promises';
import { inRepository } from '../support/repository.js';

/** A fenced block of a page. */
export interface Block {
  /** The page, from the root of the repository. */
  page: string;
  /** The line of the page on which it begins. */
  line: number;
  /** What stands behind the opening fence, such as `sh`; empty: nothing. */
  language: string;
  /** Its lines, without the indentation of the fence. */
  text: string;
}

/** Folders with pages that people follow. Those of decisions tell history, and have no commands to follow. */
const FOLDERS = ['', 'docs/', 'docs/operations/'];

/** Every page for people, from the root of the repository. */
export async function pagesForPeople(): Promise<string[]> {
  const named = await Promise.all(
    FOLDERS.map(async (folder) => (await readdir(inRepository(folder))).map((name) => `${folder}${name}`)),
  );
  const plugins = await readdir(inRepository('plugins'), { recursive: true });
  return [...named.flat(), ...plugins.map((name) => `plugins/${name}`)].filter(
    (path) => path.endsWith('.md') && !path.endsWith('CHANGELOG.md'),
  );
}

export async function blocksOf(page: string): Promise<Block[]> {
  const blocks: Block[] = [];
  let open: { block: Block; indent: string; lines: string[] } | undefined;
  for (const [index, text] of (await readFile(inRepository(page), 'utf8')).split('\n').entries()) {
    const [, indent = '', language] = /^( *)```(\S*)/.exec(text) ?? [];
    if (open === undefined) {
      if (language !== undefined)
        open = { block: { page, line: index + 1, language, text: '' }, indent, lines: [] };
    } else if (language === '') {
      blocks.push({ ...open.block, text: open.lines.join('\n') });
      open = undefined;
    } else open.lines.push(text.startsWith(open.indent) ? text.slice(open.indent.length) : text);
  }
  if (open !== undefined) throw new Error(`${page}: the block of line ${open.block.line} has no end`);
  return blocks;
}
