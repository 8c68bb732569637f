import { channel } from 'node:diagnostics_channel';
import { createRequire } from 'node:module';
import type * as opentelemetry from '@opentelemetry/api';
import type * as diff from 'diff';
import type * as fastify from 'fastify';
import type * as ky from 'ky';
import type * as ssh2 from 'ssh2';
import type * as undici from 'undici';

/** The packages that the service does not need to consume requests. Loaded at the start, they would make it twice as long. */
interface Packages {
  '@opentelemetry/api': typeof opentelemetry;
  diff: typeof diff;
  fastify: typeof fastify;
  ky: typeof ky;
  ssh2: typeof ssh2;
  undici: typeof undici;
}

const require = createRequire(import.meta.url);

/** A package begins to load (`true`), or has been loaded or failed (`false`). The event loop is blocked between. */
export const PACKAGE_LOADING = 'fleet-manager:package-loading';
const loading = channel(PACKAGE_LOADING);

/**
 * Prepares to load a package at its first use. Its file is looked up now, because Node remembers a look-up that fails, such as
 * when too many files are open. The returned function may be called again after it has thrown, and costs nothing when the
 * package is loaded.
 */
export function whenUsed<Name extends keyof Packages>(name: Name): () => Packages[Name] {
  const file = require.resolve(name);
  let loaded: Packages[Name] | undefined;
  return () => (loaded ??= whileLoading(() => require(file)));
}

function whileLoading<T>(load: () => T): T {
  loading.publish(true);
  try {
    return load();
  } finally {
    loading.publish(false);
  }
}
