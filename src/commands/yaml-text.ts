import { Document, visit } from 'yaml';
import { printableLines } from '../lib/printable.js';

/** What YAML does not allow, or what its older versions read as something else than a key. */
const QUOTED = /[\ufffe\uffff]|^<<$/;

/**
 * YAML of a value, which readers of YAML 1.1 read the same: text that they take for a number, a date or a truth value is quoted.
 * Nothing in it can control a terminal: text with such characters is quoted, and has escapes in their place.
 */
export function yamlText(value: unknown): string {
  const document = new Document(value, { aliasDuplicateObjects: false, compat: 'yaml-1.1' });
  visit(document, {
    Scalar: (_key, node) => {
      if (
        typeof node.value === 'string' &&
        (QUOTED.test(node.value) || printableLines(node.value) !== node.value)
      )
        node.type = 'QUOTE_DOUBLE';
    },
  });
  const text = document.toString({ lineWidth: 0 });
  return printableLines(text).replaceAll(
    /[\ufffe\uffff]/g,
    (each) => `\\u${each.charCodeAt(0).toString(16)}`,
  );
}
