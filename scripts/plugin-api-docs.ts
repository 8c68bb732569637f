import { table } from '../src/commands/action-docs.js';
import { type Exported, membersOf } from './plugin-api.js';

/** A table of every method of every port: what `fleet-manager/plugin` exports both as a type and as a token. */
export function portTable(exported: readonly Exported[]): string[] {
  const tokens = new Set(
    exported
      .filter(({ kind, text }) => kind === 'const' && text.includes(': Token<'))
      .map(({ name }) => name),
  );
  const ports = exported.filter(({ kind, name }) => kind === 'interface' && tokens.has(name));
  const rows = ports.flatMap(({ name, text }) =>
    membersOf(text).map((method, index) => [
      index === 0 ? `\`${name}\`` : '',
      `\`${method.text}\``,
      summaryOf(method.doc),
    ]),
  );
  return table(['token', 'method', 'what it does'], rows);
}

/** A table of the functions for authors, each with a sentence; without those that declare an action or tell it from others. */
function functionTable(exported: readonly Exported[]): string[] {
  const rows = exported
    .filter(
      ({ kind, text, name }) =>
        !['defineAction', 'isAction'].includes(name) && (kind === 'function' || text.endsWith(' => ...;')),
    )
    .map(({ text, doc }) => [`\`${signature(text)}\``, firstSentence(doc)]);
  return table(['function', 'what it gives'], rows);
}

/** A page of all types and functions, with their whole comments. */
export function apiPage(exported: readonly Exported[]): string {
  const sections = exported
    .filter(({ kind, text }) => !(kind === 'const' && text.includes(': Token<')))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(({ name, doc, text }) => [
      `## ${name}`,
      '',
      ...(doc === '' ? [] : [doc.replaceAll(/^@(\w+) /gm, '\n*$1* '), '']),
      '```ts',
      text,
      '```',
      '',
    ]);
  return [
    '# What an action can import',
    '',
    'All that `fleet-manager/plugin` exports, by name. [CONTRIBUTING.md](../CONTRIBUTING.md) shows how to use it. A port, such as',
    '`FleetTransport`, is also a value with the same name: its token for `inject`.',
    '',
    '## Functions',
    '',
    'Those without types here are pieces of [yup](https://github.com/jquense/yup) schemas, for parameters and results.',
    '',
    ...functionTable(exported),
    '',
    ...sections,
  ].join('\n');
}

function signature(text: string): string {
  return text
    .replace(/^export (async )?(function|const) /, '')
    .replace(/ = (.*) => \.\.\.;$/s, '$1')
    .replace(/;$/, '')
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/([(,] ?)\{[^{}]*\}: (?=\{)/g, '$1options: ')
    .replaceAll('( ', '(')
    .replaceAll(/,? \)/g, ')');
}

/** The first paragraph of a comment, on one line. */
function summaryOf(doc: string): string {
  const [text = ''] = doc.split(/\n\n|^@|\n@/);
  return text.replaceAll('\n', ' ').trim();
}

function firstSentence(doc: string): string {
  const [sentence = ''] = summaryOf(doc).split(/(?<=\.) (?=[A-Z(])/);
  return sentence;
}
