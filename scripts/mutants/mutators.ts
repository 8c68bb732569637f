import * as is from 'typescript/unstable/ast';
import { type Node, type SourceFile, SyntaxKind } from 'typescript/unstable/ast';

/** One small mistake: the text from `start` to `end` of a source file (in UTF-16 code units) is replaced. */
export interface Edit {
  /** The mutator that made it. */
  mutator: string;
  start: number;
  end: number;
  text: string;
}

/** Makes the mistakes of one kind that are possible at a node. `text` gives the source text of a node. */
type Mutator = (node: Node, text: (of: Node) => string) => Replacement | readonly Replacement[] | undefined;

/** A node, or the range between two positions, and what is written in its place. */
interface Replacement {
  of: { start: number; end: number } | Node;
  by: string;
}

const SWAPPED_OPERATORS = new Map<SyntaxKind, string>([
  [SyntaxKind.AmpersandAmpersandToken, '||'],
  [SyntaxKind.BarBarToken, '&&'],
  [SyntaxKind.LessThanToken, '<='],
  [SyntaxKind.LessThanEqualsToken, '<'],
  [SyntaxKind.GreaterThanToken, '>='],
  [SyntaxKind.GreaterThanEqualsToken, '>'],
  [SyntaxKind.EqualsEqualsEqualsToken, '!=='],
  [SyntaxKind.ExclamationEqualsEqualsToken, '==='],
  [SyntaxKind.PlusToken, '-'],
  [SyntaxKind.MinusToken, '+'],
  [SyntaxKind.AsteriskToken, '/'],
  [SyntaxKind.SlashToken, '*'],
  [SyntaxKind.PlusEqualsToken, '-='],
  [SyntaxKind.MinusEqualsToken, '+='],
]);

/** Methods that give another array or text of the same type, so that leaving out the call still compiles. */
const LEFT_OUT_METHODS = new Set([
  'filter',
  'slice',
  'toSorted',
  'toReversed',
  'trim',
  'trimEnd',
  'toLowerCase',
]);

const SWAPPED_METHODS = new Map([
  ['some', 'every'],
  ['every', 'some'],
  ['min', 'max'],
  ['max', 'min'],
  ['startsWith', 'endsWith'],
  ['endsWith', 'startsWith'],
]);

/** Up to this value a number is a count or an index, and one more is a mistake that can be seen; above it is a size or a time. */
const LARGEST_COUNT = 16;

/**
 * `description` is for people, `cause` for the log. A signal is aborted `once`, whether or not its listener stays.
 */
const UNSEEN_PROPERTIES = new Set(['description', 'cause', 'once']);

/** Three words: a text for people, wherever it is. */
const SENTENCE = /[a-z]+ [a-z]+ [a-z]+/i;

const MUTATORS: Readonly<Record<string, Mutator>> = {
  'condition forced': (node) => {
    if (!is.isIfStatement(node) && !is.isConditionalExpression(node)) return undefined;
    const of = is.isIfStatement(node) ? node.expression : node.condition;
    return [
      { of, by: 'true' },
      { of, by: 'false' },
    ];
  },
  'loop not entered': (node) =>
    is.isWhileStatement(node) ? { of: node.expression, by: 'false' } : undefined,
  'operator swapped': (node) => {
    if (!is.isBinaryExpression(node) || isProductOfNumbers(node)) return undefined;
    const by = SWAPPED_OPERATORS.get(node.operatorToken.kind);
    return by === undefined ? undefined : { of: node.operatorToken, by };
  },
  'step reversed': (node) => {
    if (!is.isPostfixUnaryExpression(node)) return undefined;
    const by = node.operator === SyntaxKind.PlusPlusToken ? '--' : '++';
    return { of: { start: node.operand.end, end: node.end }, by };
  },
  'default always used': (node, text) =>
    is.isBinaryExpression(node) && node.operatorToken.kind === SyntaxKind.QuestionQuestionToken
      ? { of: node, by: text(node.right) }
      : undefined,
  'negation dropped': (node, text) =>
    is.isPrefixUnaryExpression(node) && node.operator === SyntaxKind.ExclamationToken
      ? { of: node, by: text(node.operand) }
      : undefined,
  'boolean flipped': (node) => {
    if (node.kind === SyntaxKind.TrueKeyword) return { of: node, by: 'false' };
    return node.kind === SyntaxKind.FalseKeyword ? { of: node, by: 'true' } : undefined;
  },
  'number changed': (node, text) => {
    if (is.isBinaryExpression(node) && isProductOfNumbers(node)) return { of: node, by: '0' };
    if (!is.isNumericLiteral(node) || (is.isBinaryExpression(node.parent) && isProductOfNumbers(node.parent)))
      return undefined;
    const value = Number(text(node).replaceAll('_', ''));
    return { of: node, by: value <= LARGEST_COUNT ? String(value + 1) : '0' };
  },
  'text emptied': (node) =>
    (is.isStringLiteral(node) || is.isNoSubstitutionTemplateLiteral(node)) &&
    node.text !== '' &&
    !SENTENCE.test(node.text) &&
    !isName(node)
      ? { of: node, by: "''" }
      : undefined,
  'array emptied': (node) =>
    is.isArrayLiteralExpression(node) && node.elements.length > 0 ? { of: node, by: '[]' } : undefined,
  'anchor dropped': (node, text) => {
    if (node.kind !== SyntaxKind.RegularExpressionLiteral) return undefined;
    const pattern = text(node);
    return [
      ...(pattern.startsWith('/^') ? [{ of: node, by: pattern.replace('/^', '/') }] : []),
      ...(/[^\\]\$\/[a-z]*$/.test(pattern) ? [{ of: node, by: pattern.replace(/\$(\/[a-z]*)$/, '$1') }] : []),
    ];
  },
  'property left out': (node, text) =>
    is.isObjectLiteralExpression(node)
      ? node.properties
          .filter((property) => !isOutside(property, text))
          .map((property) => ({ of: withComma(property), by: '' }))
      : undefined,
  'argument left out': (node, text) => {
    if (!is.isCallExpression(node) && !is.isNewExpression(node)) return undefined;
    const last = node.arguments?.at(-1);
    if (last === undefined || isForPeople(last, text)) return undefined;
    const before = node.arguments?.at(-2);
    return { of: { start: before === undefined ? last.getStart() : before.end, end: last.end }, by: '' };
  },
  'arguments swapped': (node, text) => {
    if (!is.isCallExpression(node) && !is.isNewExpression(node)) return undefined;
    // The order does not matter to them.
    if (/^(Math\.(max|min)|Object\.is)$/.test(text(node.expression))) return undefined;
    const [first, second] = node.arguments ?? [];
    if (first === undefined || second === undefined || text(first) === text(second)) return undefined;
    return { of: { start: first.getStart(), end: second.end }, by: `${text(second)}, ${text(first)}` };
  },
  'method swapped': (node) => {
    if (!is.isCallExpression(node) || !is.isPropertyAccessExpression(node.expression)) return undefined;
    const by = SWAPPED_METHODS.get(node.expression.name.text);
    return by === undefined ? undefined : { of: node.expression.name, by };
  },
  'method call left out': (node, text) => {
    if (!is.isCallExpression(node) || !is.isPropertyAccessExpression(node.expression)) return undefined;
    const { name, expression } = node.expression;
    return LEFT_OUT_METHODS.has(name.text) ? { of: node, by: text(expression) } : undefined;
  },
  'await dropped': (node, text) => {
    if (!is.isAwaitExpression(node)) return undefined;
    // A statement that only drops its promise would be noticed by the linter.
    const by = text(node.expression);
    return { of: node, by: is.isExpressionStatement(node.parent) ? `void ${by}` : by };
  },
  'statement removed': (node) =>
    is.isExpressionStatement(node) || (isJump(node) && !isAlone(node)) ? { of: node, by: ';' } : undefined,
  'catch emptied': (node) =>
    is.isCatchClause(node) && node.block.statements.length > 0 ? { of: node.block, by: '{}' } : undefined,
  'finally emptied': (node) =>
    is.isTryStatement(node) && node.finallyBlock !== undefined
      ? { of: node.finallyBlock, by: '{}' }
      : undefined,
};

export const MUTATOR_NAMES: readonly string[] = Object.keys(MUTATORS);

/** All mistakes that can be made in a source file, in the order of the file. Whether they compile is not known. */
export function editsOf(source: SourceFile): Edit[] {
  const edits: Edit[] = [];
  const text = (of: Node) => source.text.slice(of.getStart(source), of.end);
  const visit = (node: Node): void => {
    if (isOutside(node, text)) return;
    for (const [mutator, make] of Object.entries(MUTATORS)) {
      const made = make(node, text) ?? [];
      for (const { of, by } of Array.isArray(made) ? made : [made]) {
        const start = 'start' in of ? of.start : of.getStart(source);
        edits.push({ mutator, start, end: of.end, text: by });
      }
    }
    node.forEachChild(visit);
  };
  visit(source);
  return edits;
}

/** What no test has to notice: types, imports, what is written for people, names of errors, and what changes nothing. */
function isOutside(node: Node, text: (of: Node) => string): boolean {
  if (is.isTypeNode(node) || is.isInterfaceDeclaration(node) || is.isTypeAliasDeclaration(node)) return true;
  if (is.isImportDeclaration(node) || is.isExportDeclaration(node)) return true;
  if (is.isPropertyDeclaration(node)) return text(node.name) === 'name';
  if (is.isPropertyAssignment(node) || is.isShorthandPropertyAssignment(node))
    return UNSEEN_PROPERTIES.has(text(node.name));
  if (is.isCallExpression(node))
    return /(^|[.#?])log\??\.(debug|info|warn|error)$/.test(text(node.expression));
  return isMessageOfError(node, text);
}

/** A text for people in an error: every text but the code of an `ActionError`, which programs read. */
function isMessageOfError(node: Node, text: (of: Node) => string): boolean {
  if (
    !is.isStringLiteral(node) &&
    !is.isTemplateExpression(node) &&
    !is.isNoSubstitutionTemplateLiteral(node)
  )
    return false;
  for (let at: Node = node; !is.isStatement(at) && at.parent !== undefined; at = at.parent) {
    const { parent } = at;
    if (is.isNewExpression(parent) && text(parent.expression).endsWith('Error'))
      return !(at === node && parent.arguments?.[0] === node && parent.arguments.length > 1);
    if (is.isArrowFunction(parent) || is.isFunctionExpression(parent)) return false;
  }
  return false;
}

/** Whether an argument is the message of an error, has only what nobody sees, or separates the parts of a text. */
function isForPeople(argument: Node, text: (of: Node) => string): boolean {
  if (isMessageOfError(argument, text)) return true;
  if (is.isObjectLiteralExpression(argument) && argument.properties.length > 0)
    return argument.properties.every((property) => isOutside(property, text));
  return is.isStringLiteral(argument) && /^\W* $/.test(argument.text);
}

/** `10 * 60_000` is one constant. */
function isProductOfNumbers(node: Node): boolean {
  if (!is.isBinaryExpression(node) || node.operatorToken.kind !== SyntaxKind.AsteriskToken) return false;
  return [node.left, node.right].every((side) => is.isNumericLiteral(side) || isProductOfNumbers(side));
}

/** Whether a text is the name of a property, or a specifier of a module. */
function isName(node: Node): boolean {
  const { parent } = node;
  if (is.isCallExpression(parent)) return parent.expression.kind === SyntaxKind.ImportKeyword;
  return is.isPropertyAssignment(parent) && parent.name === node;
}

function isJump(node: Node): boolean {
  return (
    is.isReturnStatement(node) ||
    is.isThrowStatement(node) ||
    is.isBreakStatement(node) ||
    is.isContinueStatement(node)
  );
}

/** Whether an `if` does nothing else: then its removal is the same as the forced condition. */
function isAlone(node: Node): boolean {
  const { parent } = node;
  return (
    is.isIfStatement(parent) ||
    (is.isBlock(parent) && parent.statements.length === 1 && is.isIfStatement(parent.parent))
  );
}

/** The range of a property with the comma behind it. */
function withComma(property: Node): { start: number; end: number } {
  const source = property.getSourceFile().text;
  const comma = /^\s*,/.exec(source.slice(property.end));
  return { start: property.getStart(), end: property.end + (comma?.[0].length ?? 0) };
}
