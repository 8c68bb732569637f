import type { ActionDescription } from '../core/action-description.js';
import { type JsonSchema, jsonSchemaOf } from '../core/json-schema.js';
import type { DeclaredSetting } from '../core/plugin-settings.js';
import { exampleCall } from './example-call.js';
import { descriptionOf, isSchema, propertiesOf, typeText } from './schema-text.js';

const TARGETS = { cluster: 'needs a cluster', optional: 'may have a cluster', none: 'uses no cluster' };

/** The settings that an action declares; none by default. */
export type SettingsOf = (action: string) => readonly DeclaredSetting[];

/** The catalogue as a page of Markdown. */
export function actionsPage(
  actions: readonly ActionDescription[],
  settingsOf: SettingsOf = () => [],
): string {
  const rows = actions.map((action) => [
    `[\`${action.name}\`](#${action.name})`,
    action.effect,
    action.summary,
  ]);
  return [
    '# Actions',
    '',
    ...table(['action', 'effect', 'what it does'], rows),
    '',
    'In the names of fields `[]` is each item of a list, and `*` each key of a map.',
    '',
    ...actions.map((each) => actionSection(each, settingsOf(each.name))),
  ].join('\n');
}

/** One action as a section of Markdown. */
export function actionSection(action: ActionDescription, settings: readonly DeclaredSetting[] = []): string {
  const { name, summary, effect, target, redelivery, timeout_ms: timeoutMs, result } = action;
  const again = redelivery === 'refuse' ? 'not run again' : 'run again';
  const about = descriptionOf(result);
  return [
    `## ${name}`,
    '',
    summary,
    '',
    `A ${effect}; ${TARGETS[target]}; ${again} after the loss of a worker; takes at most ${timeoutMs / 1_000} s.`,
    '',
    ...parameterTable(action),
    '',
    ...spaced(settingTable(settings)),
    `Result: ${typeText(result)}.${about === '' ? '' : ` ${about}`}`,
    '',
    ...spaced(resultTable(action)),
    '```sh',
    exampleCall(action),
    '```',
    '',
  ].join('\n');
}

/** The lines of a table of the parameters, or a line that says that there are none. */
export function parameterTable({ parameters }: ActionDescription): string[] {
  const rows = fieldRows(parameters, '', 'parameters');
  return rows.length === 0 ? ['No parameters.'] : table(['parameter', 'type', 'meaning'], rows);
}

/** The lines of a table of the fields of the result; none when it has no fields. */
export function resultTable({ result }: ActionDescription): string[] {
  const rows = fieldRows(result, '', 'result');
  return rows.length === 0 ? [] : table(['field', 'type', 'meaning'], rows);
}

/** What operators set for the action; without the defaults of secrets. */
function settingTable(settings: readonly DeclaredSetting[]): string[] {
  const rows = settings.map((setting) => {
    const standard =
      setting.secret || setting.default === undefined ? '' : `, default ${JSON.stringify(setting.default)}`;
    const secret = setting.secret ? ', secret' : '';
    return [
      `\`${setting.name}\``,
      `${typeText(jsonSchemaOf(setting.schema))}${secret}${standard}`,
      setting.about,
    ];
  });
  return rows.length === 0 ? [] : table(['setting', 'type', 'meaning'], rows);
}

function spaced(lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? lines : [...lines, ''];
}

/** A row for each field at any depth. Parameters are optional unless marked, fields of a result are there unless marked. */
function fieldRows(schema: JsonSchema, path: string, part: 'parameters' | 'result'): string[][] {
  const required: unknown[] = [schema.required ?? []].flat();
  const own = Object.entries(propertiesOf(schema)).flatMap(([name, field]) => {
    const place = path === '' ? name : `${path}.${name}`;
    const marks = [
      part === 'parameters' && required.includes(name) ? 'required' : '',
      part === 'result' && !required.includes(name) ? 'optional' : '',
      field.default === undefined ? '' : `default ${JSON.stringify(field.default)}`,
    ].filter((mark) => mark !== '');
    const type = [typeText(field), ...marks].join(', ');
    return [[`\`${place}\``, type, descriptionOf(field)], ...fieldRows(field, place, part)];
  });
  const inner = (each: unknown, place: string) => (isSchema(each) ? fieldRows(each, place, part) : []);
  return [
    ...own,
    ...inner(schema.items, `${path}[]`),
    ...inner(schema.additionalProperties, path === '' ? '*' : `${path}.*`),
  ];
}

/** The lines of a table. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map(inCell).join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)];
}

function inCell(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, ' ').replaceAll('|', '\\|');
}
