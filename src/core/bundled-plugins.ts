/**
 * The plugins that are in the same file as this code: entry file -> its import. There are none in the sources; scripts/bundle.js
 * has another text for this file.
 */
export const bundledPlugins: ReadonlyMap<string, () => Promise<unknown>> = new Map();
