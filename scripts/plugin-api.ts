/**
 * Reads what `fleet-manager/plugin` exports, from the text of its sources: TypeScript 7 has no API that would tell. The sources are
 * formatted, so a declaration that ends with a brace ends at the first line that is only that.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Something that a module exports. */
export interface Exported {
  readonly name: string;
  readonly kind: 'interface' | 'class' | 'type' | 'function' | 'const';
  /** The text of its doc comment; empty without one. */
  readonly doc: string;
  /** What an author needs of its declaration: of a function all but its body. */
  readonly text: string;
  /** Whether only its type is exported. */
  readonly typeOnly: boolean;
}

/** A member of an interface. */
export interface Member {
  readonly name: string;
  readonly doc: string;
  /** On one line, without the semicolon. */
  readonly text: string;
}

/** What a module exports by name from others, in its order. */
export function exportsOf(file: string): Exported[] {
  const source = readFileSync(file, 'utf8');
  const lists = source.matchAll(/^export (type )?\{([^}]+)\} from '([^']+)';/gm);
  return [...lists].flatMap(([, types, names = '', path = '']) =>
    names
      .split(',')
      .map((each) => each.trim())
      .filter((each) => each !== '')
      .flatMap((each) => {
        const typeOnly = types !== undefined || each.startsWith('type ');
        return declarationsOf(sourceOf(file, path), each.replace(/^type /, ''), typeOnly);
      }),
  );
}

/** The name can be that of a type and of a value. */
function declarationsOf(file: string, name: string, typeOnly: boolean): Exported[] {
  const source = readFileSync(file, 'utf8');
  const start = new RegExp(
    `^(?<doc>/\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/\\n)?export (?:abstract |async )?(?<kind>interface|class|type|function|const) ${name}\\b`,
    'gm',
  );
  const found = [...source.matchAll(start)].map((match) => {
    const { doc = '', kind = '' } = match.groups ?? {};
    const text = declaration(source.slice(match.index + doc.length), kindOf(kind), typeOnly);
    return { name, kind: kindOf(kind), doc: docText(doc), text, typeOnly };
  });
  if (found.length === 0) throw new Error(`${file} does not declare ${name} in a way that this script knows`);
  return found.flatMap((each) => aliased(file, source, each));
}

/** What another module declares under another name, as `export type Clock = LibraryClock` says. */
function aliased(file: string, source: string, exported: Exported): Exported[] {
  const [, other] = /^export type \w+ = (\w+);$/.exec(exported.text) ?? [];
  const imports = source.matchAll(/^import (?:type )?\{([^}]+)\} from '([^']+)';/gm);
  for (const [, names = '', path = ''] of imports)
    for (const each of names.split(',')) {
      const [original = '', local = original] = each
        .trim()
        .replace(/^type /, '')
        .split(' as ');
      if (other === undefined || local !== other) continue;
      return declarationsOf(sourceOf(file, path), original, exported.typeOnly).map((declared) => ({
        ...declared,
        name: exported.name,
        text: declared.text.replace(original, exported.name),
        doc: exported.doc === '' ? declared.doc : exported.doc,
      }));
    }
  return [exported];
}

function sourceOf(file: string, path: string): string {
  return join(dirname(file), path.replace(/\.js$/, '.ts'));
}

function kindOf(text: string): Exported['kind'] {
  const kinds = ['interface', 'class', 'type', 'function', 'const'] as const;
  const kind = kinds.find((each) => each === text);
  if (kind === undefined) throw new Error(`unknown kind ${text}`);
  return kind;
}

function declaration(text: string, kind: Exported['kind'], typeOnly: boolean): string {
  if (kind === 'interface') return text.slice(0, text.indexOf('\n}\n') + 2);
  if (kind === 'class') return publicPart(text.slice(0, text.indexOf('\n}\n') + 2), typeOnly);
  if (kind === 'function') return `${text.slice(0, bodyOf(text)).trimEnd()};`;
  const end = statementEnd(text);
  return kind === 'type' ? text.slice(0, end) : withoutValue(text.slice(0, end));
}

/** Without private members, and without the bodies of the others. */
function publicPart(text: string, typeOnly: boolean): string {
  const [head = ''] = text.split('\n');
  const members = membersOf(text).filter(
    ({ name, text: member }) =>
      /^\w/.test(name) &&
      !/^(static|override|private) /.test(member) &&
      !(typeOnly && name === 'constructor'),
  );
  const lines = members.flatMap(({ doc, text: member }) => [
    ...(doc === '' ? [] : [`  /** ${doc.replaceAll('\n', '\n   * ')} */`]),
    `  ${member};`,
  ]);
  return [head, ...lines, '}'].join('\n');
}

/** Of a constant: its type, or the parameters of its function. */
function withoutValue(text: string): string {
  const typed = /^export const \w+: [^=]+(?= =)/.exec(text)?.[0];
  if (typed !== undefined) return `${typed};`;
  const [, head = '', value = ''] = /^(export const \w+) = ([\s\S]*)$/.exec(text) ?? [];
  if (!/^(<[^(]*)?\(/.test(value)) return text;
  return `${head} = ${value.slice(0, value.indexOf('=>')).trimEnd()} => ...;`;
}

/** Where the body of a function begins. */
function bodyOf(text: string): number {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? '';
    if (character === '{' && depth === 0 && /[\n\s)>\]\w]\s$/.test(text.slice(0, at))) {
      const end = text.indexOf('\n', at);
      if (text.slice(at + 1, end).trim() === '') return at;
    }
    if ('({'.includes(character)) depth++;
    if (')}'.includes(character)) depth--;
  }
  throw new Error(`no body: ${text.slice(0, 80)}`);
}

/** Where a statement ends, with its semicolon. */
function statementEnd(text: string): number {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? '';
    if ('({['.includes(character)) depth++;
    if (')}]'.includes(character)) depth--;
    if (character === ';' && depth === 0) return at + 1;
  }
  throw new Error(`no end: ${text.slice(0, 80)}`);
}

/** The members of an interface or a class whose head is one line. */
export function membersOf(text: string): Member[] {
  const lines = text.split('\n').slice(1, -1);
  const members: Member[] = [];
  let doc: string[] = [];
  let member: string[] = [];
  for (const line of lines) {
    const isComment = member.length === 0 && /^ {2}(\/\*\*| \*|\/\/)/.test(line);
    if (isComment) doc.push(line);
    else if (member.length > 0 || line.trim() !== '') member.push(line);
    const ends = member.length > 0 && /^ {2}\S.*;$|^ {2}\}/.test(line);
    if (!ends) continue;
    const [begin = ''] = member;
    const isFunction = /\)(: [^{]+)? \{$/.test(begin);
    const whole = (isFunction ? begin.slice(0, -2) : member.map((each) => each.trim()).join(' '))
      .trim()
      .replace(/;$/, '')
      .replaceAll(/\(\s+/g, '(')
      .replaceAll(/,?\s+\)/g, ')');
    const [, name = ''] = /^(?:readonly |override |get |static |async )*([\w#]+)/.exec(whole) ?? [];
    members.push({ name, doc: docText(doc.join('\n')), text: whole });
    doc = [];
    member = [];
  }
  return members;
}

/** The text of a doc comment, with its paragraphs on a line each. */
function docText(comment: string): string {
  return comment
    .split('\n')
    .map((line) =>
      line
        .trim()
        .replace(/^\/\*\*\s?|^\*(?!\/)\s?/, '')
        .replace(/\s*\*\/$/, ''),
    )
    .join('\n')
    .trim();
}
