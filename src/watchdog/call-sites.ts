import { fileURLToPath } from 'node:url';

/** The most places of a stack that are logged. */
const MOST = 5;

/** @param line counted from 1 */
export interface CallSite {
  function: string;
  url: string;
  line: number;
}

/** The innermost places of a stack, without those inside of Node.js: `function (file:line)`. */
export function placesOf(stack: readonly CallSite[]): string[] {
  return stack
    .filter(({ url }) => url.startsWith('file:') || url.startsWith('/'))
    .slice(0, MOST)
    .map((site) => `${site.function || '(anonymous)'} (${pathOf(site.url)}:${site.line})`);
}

function pathOf(url: string): string {
  return url.startsWith('file:') ? fileURLToPath(url) : url;
}
