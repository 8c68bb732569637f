import { Document, visit } from 'yaml';
import { printableLines } from '../lib/printable.js';

/** YAML of a value. Nothing in it can control a terminal: text with such characters is quoted, and has escapes in their place. */
export function yamlText(value: unknown): string {
  const document = new Document(value, { aliasDuplicateObjects: false });
  visit(document, {
    Scalar: (_key, node) => {
      if (typeof node.value === 'string' && printableLines(node.value) !== node.value)
        node.type = 'QUOTE_DOUBLE';
    },
  });
  return printableLines(document.toString({ lineWidth: 0 }));
}
