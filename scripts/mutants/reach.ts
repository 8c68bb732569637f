import { isArrowFunction, isBlock, type Node, type SourceFile } from 'typescript/unstable/ast';

/** A place in a source file, and the number by which its probe tells it. */
interface Place {
  position: number;
  number: number;
}

/** The file in the root of a copied tree to which the probes of its sources write. */
export const REACHED = 'reached.txt';

/** The module, in the root of a copied tree, that its probes use. A process writes each number once. */
export const PROBE_MODULE = `import { appendFileSync } from 'node:fs';
const seen = new Set();
export function reach(place) {
  if (seen.has(place)) return;
  seen.add(place);
  appendFileSync(new URL('${REACHED}', import.meta.url), place + '\\n');
}
`;

/**
 * The text of a source file with a probe for each place, which tells when the block around the place begins to run.
 * @param probeModule the address of the module with PROBE_MODULE
 */
export function withProbes(source: SourceFile, places: readonly Place[], probeModule: string): string {
  const insertions: { at: number; text: string }[] = [
    { at: 0, text: `import { reach as reach$ } from ${JSON.stringify(probeModule)};` },
  ];
  for (const { position, number } of places) {
    const around = blockAround(source, position);
    if (around === undefined) insertions.push({ at: 0, text: `reach$(${number});` });
    else if (isBlock(around))
      insertions.push({ at: around.getStart(source) + 1, text: `reach$(${number});` });
    else
      insertions.push(
        { at: around.getStart(source), text: `(reach$(${number}), ` },
        { at: around.end, text: ')' },
      );
  }
  let text = source.text;
  // From the end, so that the positions of the others hold.
  for (const { at, text: inserted } of insertions.toReversed().toSorted((a, b) => b.at - a.at))
    text = text.slice(0, at) + inserted + text.slice(at);
  return text;
}

/** The innermost block, or expression of an arrow function, around a position; undefined at the top of the file. */
function blockAround(source: SourceFile, position: number): Node | undefined {
  let found: Node | undefined;
  const visit = (node: Node): void => {
    if (position < node.getStart(source) || position >= node.end) return;
    // A position at the start of a block is the block itself, which is run only by what is around it.
    if (isBlock(node) && position > node.getStart(source)) found = node;
    if (isArrowFunction(node) && !isBlock(node.body) && position >= node.body.getStart(source))
      found = node.body;
    node.forEachChild(visit);
  };
  visit(source);
  return found;
}
