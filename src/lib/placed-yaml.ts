import { isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { reasonOf } from './errors.js';
import { printable } from './printable.js';
import { tooDeepAt } from './yaml-nesting.js';

const MAX_PROBLEMS = 20;
/** How often an alias may be used in all: aliases of aliases grow without a limit. */
const MAX_ALIASES = 100;
/** How often keys are compared: each with all others of its map, of which a rule has few. */
const MAX_COMPARISONS = 100_000;

/** The way to a value in a file: keys, and numbers of items from 0. */
export type Path = readonly (string | number)[];

/** A file as data, and where its values are. */
export interface PlacedYaml {
  value: unknown;
  /** Where a value is, or its key, or what contains it: `line 3, column 5`. */
  placeOf: (path: Path, ofKey?: boolean) => string;
}

/**
 * Reads a text of YAML 1.2 or JSON that an operator has written.
 * @throws Error that lists what is wrong, each problem with its line and column; it quotes no lines of the text
 */
export function readYaml(text: string): PlacedYaml {
  const lines = new LineCounter();
  const at = (offset: number | undefined) => {
    const { line, col } = lines.linePos(offset ?? 0);
    return `line ${line}, column ${col}`;
  };
  const deep = tooDeepAt(text);
  if (deep !== undefined) {
    const before = text.slice(0, deep).split('\n');
    const place = `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`;
    throw new Error(`${place}: it is nested deeper than any file of this kind, or has too many anchors`);
  }
  const { document, value } = parsed(text, lines, at);
  return { value, placeOf: (path, ofKey = false) => at(offsetOf(document.contents, path, ofKey)) };
}

function parsed(text: string, lineCounter: LineCounter, at: (offset: number) => string) {
  let document;
  try {
    // The parser's own messages would quote lines of the file.
    document = parseDocument(text, {
      lineCounter,
      prettyErrors: false,
      stringKeys: true,
      uniqueKeys: keyComparison(),
    });
  } catch (error) {
    throw new Error(`it cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  // A warning says that something is not read as it is written, such as an unknown tag.
  const { errors, warnings } = document;
  refuseProblems(
    [...errors, ...warnings].map(({ pos: [start], message }) => `${at(start)}: ${printable(message)}`),
  );
  try {
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    return { document, value };
  } catch (error) {
    throw new Error(`it cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

/** Whether two keys of a map are the same, for the parser. It throws when a map has too many. */
function keyComparison(): (a: unknown, b: unknown) => boolean {
  let comparisons = 0;
  return (a, b) => {
    if (++comparisons > MAX_COMPARISONS) throw new Error('a map has too many keys');
    return a === b || (isScalar(a) && isScalar(b) && a.value === b.value);
  };
}

/** @throws Error with the first problems, when there are any */
export function refuseProblems(problems: readonly string[]): void {
  if (problems.length === 0) return;
  const more = problems.length > MAX_PROBLEMS ? ['...'] : [];
  throw new Error([...problems.slice(0, MAX_PROBLEMS), ...more].join('; '));
}

/** Where a value is, or its key, or what contains it. */
function offsetOf(contents: unknown, path: Path, ofKey: boolean): number | undefined {
  let node: unknown = contents;
  let offset = startOf(contents);
  for (const [index, step] of path.entries()) {
    // What an alias stands for is elsewhere: the place of the alias is told.
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === step);
      const isWanted = ofKey && index === path.length - 1;
      offset = (isWanted ? undefined : startOf(pair?.value)) ?? startOf(pair?.key) ?? offset;
      node = pair?.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = startOf(node) ?? offset;
    } else return offset;
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
