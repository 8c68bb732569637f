import type { Argument, Command, Option } from 'commander';
import type { ActionDescription } from '../../core/action-description.js';
import { fieldsOf } from '../../lib/fields-of.js';
import { columnTitles } from '../table/result-text.js';

/** A word that could stand on the command line. */
export interface Candidate {
  /** A word that ends in `=` goes on. */
  value: string;
  about?: string;
}

/** The shell completes the name of a file. */
export const FILES = 'files';

/** The options that may be repeated. */
const REPEATABLE: ReadonlySet<string | undefined> = new Set(['--param', '--unit']);

/** What is asked only when it is needed. */
export interface CompletionSources {
  actions: () => Promise<readonly ActionDescription[]>;
  /** The names of clusters; tokens are secrets. */
  clusters: () => Promise<readonly string[]>;
}

/** What the words before the last one say. */
interface Place {
  command: Command;
  /** The arguments of the command, without its options. */
  operands: readonly string[];
  /** The values of each option, by its long name. */
  given: ReadonlyMap<string, readonly string[]>;
  /** The option whose value comes next. */
  awaiting: Option | undefined;
  /** Whether options have ended, with `--`. */
  onlyOperands: boolean;
}

/**
 * The words that the last one of a command line could be.
 * @param words without the name of the program; the last one is being written, and may be empty
 */
export async function candidates(
  program: Command,
  words: readonly string[],
  sources: CompletionSources,
): Promise<readonly Candidate[] | typeof FILES> {
  const current = words.at(-1) ?? '';
  const place = placeAfter(program, words.slice(0, -1));
  const found = await unfiltered(place, current, sources);
  return found === FILES ? found : found.filter(({ value }) => value.startsWith(current));
}

async function unfiltered(
  place: Place,
  current: string,
  sources: CompletionSources,
): Promise<readonly Candidate[] | typeof FILES> {
  const { command, awaiting, operands } = place;
  if (awaiting !== undefined) return valuesOf(awaiting, place, current, sources);
  if (current.startsWith('-') && !place.onlyOperands) {
    const at = current.indexOf('=');
    const option = at < 0 ? undefined : optionsOf(command).find(({ long }) => long === current.slice(0, at));
    if (option === undefined) return optionNames(place);
    const values = await valuesOf(option, place, current.slice(at + 1), sources);
    if (values === FILES) return FILES;
    return values.map(({ value, about }) => ({ value: `${current.slice(0, at + 1)}${value}`, about }));
  }
  if (command.commands.length > 0) return commandNames(command);
  const argument = command.registeredArguments[operands.length];
  return argument === undefined ? [] : argumentValues(argument, command, sources);
}

function placeAfter(program: Command, words: readonly string[]): Place {
  let command = program;
  let awaiting: Option | undefined;
  let onlyOperands = false;
  const operands: string[] = [];
  const given = new Map<string, string[]>();
  const add = ({ long }: Option, value: string) =>
    given.set(long ?? '', [...(given.get(long ?? '') ?? []), value]);
  for (const word of words) {
    if (awaiting !== undefined) {
      add(awaiting, word);
      awaiting = undefined;
    } else if (word === '--') onlyOperands = true;
    else if (word.startsWith('-') && !onlyOperands) {
      const [name = '', ...rest] = word.split('=');
      const option = optionsOf(command).find(({ long, short }) => long === name || short === name);
      if (option === undefined) continue;
      if (rest.length > 0) add(option, rest.join('='));
      else if (takesValue(option)) awaiting = option;
      else add(option, '');
    } else {
      const next = command.commands.find((each) => each.name() === word);
      if (next === undefined) operands.push(word);
      else command = next;
    }
  }
  return { command, operands, given, awaiting, onlyOperands };
}

/** Those of the command and of its parents. */
function optionsOf(command: Command): Option[] {
  const own = [...command.options];
  return command.parent === null ? own : [...own, ...optionsOf(command.parent)];
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

function optionNames({ command, given }: Place): Candidate[] {
  const names = optionsOf(command)
    .filter((option) => !option.hidden && (!given.has(option.long ?? '') || REPEATABLE.has(option.long)))
    .filter(({ long }) => long !== '--version' || command.parent === null)
    .map(({ long, short, description }) => ({ value: long ?? short ?? '', about: firstPhrase(description) }));
  return [...names, { value: '--help', about: 'display help for command' }];
}

function commandNames(command: Command): Candidate[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .map((each) => ({ value: each.name(), about: firstPhrase(each.description()) }));
}

async function argumentValues(
  argument: Argument,
  command: Command,
  { actions }: CompletionSources,
): Promise<Candidate[]> {
  if (argument.argChoices !== undefined) return argument.argChoices.map((value) => ({ value }));
  const isAction = argument.name() === 'action' || command.name() === 'actions';
  return isAction ? (await actions()).map(actionName) : [];
}

async function valuesOf(
  option: Option,
  place: Place,
  current: string,
  sources: CompletionSources,
): Promise<readonly Candidate[] | typeof FILES> {
  if (option.argChoices !== undefined) return option.argChoices.map((value) => ({ value }));
  switch (option.long) {
    case '--config':
      return FILES;
    case '--output':
      // Only one command has it without choices: for a file.
      return FILES;
    case '--cluster':
      return (await sources.clusters()).map((value) => ({ value }));
    case '--action':
      return (await sources.actions()).map(actionName);
    case '--param':
      return parameterValues(await calledAction(place, sources), place, current);
    case '--columns':
      return columnValues(await calledAction(place, sources), current);
    default:
      return [];
  }
}

async function calledAction(
  { command, operands }: Place,
  { actions }: CompletionSources,
): Promise<ActionDescription | undefined> {
  if (command.registeredArguments[0]?.name() !== 'action') return undefined;
  return (await actions()).find(({ name }) => name === operands[0]);
}

/** `name=` for each parameter that is not given; after it the values that its schema lists. */
function parameterValues(
  action: ActionDescription | undefined,
  { given }: Place,
  current: string,
): Candidate[] {
  const fields = Object.entries(fieldsOf(action?.parameters.properties));
  const at = current.indexOf('=');
  if (at >= 0) {
    const field = fieldsOf(fields.find(([name]) => name === current.slice(0, at))?.[1]);
    return choicesOf(field).map((value) => ({ value: `${current.slice(0, at + 1)}${value}` }));
  }
  const used = new Set((given.get('--param') ?? []).map((each) => each.split('=')[0]));
  return fields
    .filter(([name, schema]) => !used.has(name) || fieldsOf(schema).type === 'array')
    .map(([name, schema]) => ({ value: `${name}=`, about: textOf(fieldsOf(schema).description) }));
}

function choicesOf({ enum: choices, type }: Readonly<Record<string, unknown>>): string[] {
  if (Array.isArray(choices)) return choices.filter((each) => each !== null).map(String);
  return [type].flat().includes('boolean') ? ['true', 'false'] : [];
}

function columnValues(action: ActionDescription | undefined, current: string): Candidate[] {
  if (action === undefined) return [];
  // One list in one word.
  const earlier = current.split(',').slice(0, -1);
  return columnTitles(action.result)
    .filter((title) => !earlier.includes(title))
    .map((title) => ({ value: [...earlier, title].join(',') }));
}

function actionName({ name, summary }: ActionDescription): Candidate {
  return { value: name, about: summary };
}

function firstPhrase(description: string): string {
  return description.split(/[;:(]/)[0]?.trim() ?? '';
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
