/** Imports the entry file of a plugin. scripts/bundle.js has another text for this module, with the plugins of the package. */
export async function importPlugin(url: string): Promise<unknown> {
  return import(url);
}
