import { readFileSync } from 'node:fs';

/** The version of this package; `unknown` when its package.json cannot be read. */
export function packageVersion(): string {
  // The build is one folder deeper than the sources.
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      return String(JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version);
    } catch {}
  }
  return 'unknown';
}
