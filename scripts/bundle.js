/**
 * Adds the bundle to the build: all that the process of the service runs, in one file, with the packages that it needs at the start,
 * and the code that V8 makes of it (docs/decisions/0026-the-build-has-a-bundle.md).
 */
import { fork } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'rolldown';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');
const SRC = join(DIST, 'src');
const FILE = join(SRC, 'fleet-manager.cjs');

/** Packages that it must contain. */
const NEEDED = ['amqplib', 'reflect-metadata', 'tsyringe', 'winston', 'winston-transport', 'yup'];
/** CommonJS packages that the service does not need at the start; they are loaded from their own files. */
const EXTERNAL = [
  'fastify',
  'ssh2',
  'undici',
  '@onify/fake-amqplib',
  'commander',
  'prom-client',
  'yaml',
  '@opentelemetry/api',
  '@opentelemetry/context-async-hooks',
  '@opentelemetry/core',
  '@opentelemetry/exporter-trace-otlp-http',
  '@opentelemetry/exporter-trace-otlp-proto',
  '@opentelemetry/resources',
  '@opentelemetry/sdk-trace-base',
];

const AMQPLIB = dirname(createRequire(import.meta.url).resolve('amqplib'));
/** Modules that have another text in the bundle. */
const REPLACED = {
  'src/core/import-plugin.js': `
    const bundled = new Map([
      ${readdirSync(join(DIST, 'plugins'))
        .map((name) => `'../../plugins/${name}/index.js'`)
        .map((path) => `[new URL(${path}, import.meta.url).href, () => import(${path})],`)
        .join('\n')}
    ]);
    export const importPlugin = async (url) => (bundled.get(url) ?? importUrl)(url);`,
  'src/rpc/amqplib-files.js': `
    export const loadCodec = () => require('${AMQPLIB}/lib/codec.js');
    export const loadConnection = () => require('${AMQPLIB}/lib/connection.js');`,
};

const plugin = {
  name: 'fleet-manager',
  /** A package outside is required where a module that needs it is first used. */
  resolveId(name, importer = '') {
    if (!EXTERNAL.includes(name)) return undefined;
    return importer.startsWith('outside:') ? { id: name, external: true } : `outside:${name}`;
  },
  load(id) {
    if (id.startsWith('outside:')) return `module.exports = require('${id.slice('outside:'.length)}');`;
    return REPLACED[relative(DIST, id)];
  },
  transform(code, id) {
    if (!id.startsWith(DIST)) return undefined;
    // What is required must be known. Each module keeps its address.
    return code
      .replace('const require = createRequire(import.meta.url);', '')
      .replaceAll('import.meta', `metaOf('${relative(SRC, id)}')`);
  },
};

async function bundle() {
  const { output } = await build({
    cwd: ROOT,
    input: join(SRC, 'commands/main.js'),
    platform: 'node',
    plugins: [plugin],
    onLog: (_level, { message }) => {
      throw new Error(message);
    },
    output: {
      file: FILE,
      format: 'cjs',
      codeSplitting: false,
      strict: true,
      // It would remove the function of the banner: nothing in this file calls it.
      minify: false,
      comments: false,
      // Then Node reads it as one-byte text.
      charset: 'ascii',
      // The arguments of `Load` in src/bundle.ts.
      banner: '(function (require, metaOf, importUrl) {',
      intro: 'const exports = {};',
      outro: 'return exports;',
      footer: '})',
    },
  });
  const [{ code, moduleIds }] = output;
  if (/\bimport\(/.test(code)) throw new Error('the bundle has an import() that this script does not know');
  const packages = new Set(moduleIds.flatMap((id) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id) ?? []));
  for (const name of NEEDED)
    if (![...packages].some((path) => path.endsWith(`/${name}`)))
      throw new Error(`the bundle lacks ${name}: src/ requires it in another way than this script knows`);
  writeFileSync(join(SRC, 'fleet-manager.licenses.txt'), licensesOf([...packages].toSorted()));
}

/** The licenses of bundled packages ask for their text beside the copy. */
function licensesOf(packages) {
  return packages
    .map((path) => {
      const { name, version, license } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
      const file = readdirSync(path).find((each) => /^licen[cs]e/i.test(each));
      const text = file === undefined ? `License: ${license}\n` : readFileSync(join(path, file), 'utf8');
      return `${name} ${version}\n\n${text.trimEnd()}\n`;
    })
    .join(`\n${'-'.repeat(80)}\n\n`);
}

/** A service whose broker refuses the connection has run all of the start that it can here. */
const STARTED = /"broker connection lost"/;
const CACHE_MS = 60_000;

async function writeCodeCache() {
  const env = {
    PATH: process.env.PATH,
    NODE_ENV: 'production',
    LOG_FORMAT: 'json',
    HTTP_HOST: '127.0.0.1',
    HTTP_PORT: '0',
    AMQP_URL: 'amqp://127.0.0.1:1',
  };
  const service = fork(fileURLToPath(new URL('code-cache.js', import.meta.url)), {
    cwd: tmpdir(),
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    timeout: CACHE_MS,
  });
  const lines = [];
  for await (const line of createInterface({ input: service.stderr })) {
    lines.push(line);
    if (STARTED.test(line) && service.connected) service.send('write');
  }
  if (readdirSync(SRC).some((name) => name.endsWith('.cache'))) return;
  process.stderr.write(`no code cache was made, so the service will start slower:\n${lines.join('\n')}\n`);
}

await bundle();
await writeCodeCache();
