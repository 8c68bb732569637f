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
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SRC = join(ROOT, 'dist/src');
const FILE = join(SRC, 'fleet-manager.cjs');

/** Packages that it must contain. */
const NEEDED = ['amqplib', 'reflect-metadata', 'tsyringe', 'winston', 'winston-transport', 'yup'];
/** CommonJS packages that the service does not need at the start; they are loaded from their own files. */
const EXTERNAL = ['fastify', 'ssh2', 'undici', '@onify/fake-amqplib', 'commander'];

const plugins = readdirSync(join(ROOT, 'dist/plugins'));

const ENTRY = `export const commands = () => import('./commands/main.js');`;
const BUNDLED_PLUGINS = `
  import { fileURLToPath } from 'node:url';
  const fileOf = (name) => fileURLToPath(new URL('../../plugins/' + name + '/index.js', import.meta.url));
  export const bundledPlugins = new Map([
    ${plugins.map((name) => `[fileOf('${name}'), () => import('../../plugins/${name}/index.js')],`).join('\n')}
  ]);`;

/** Gives each module what it has in a file of its own. */
const asFiles = {
  name: 'as files',
  setup({ onLoad }) {
    onLoad({ filter: /\/dist\/(src|plugins)\/.*\.js$/ }, ({ path }) => {
      const text = path.endsWith('/core/bundled-plugins.js') ? BUNDLED_PLUGINS : readFileSync(path, 'utf8');
      const url = `urlOf(${JSON.stringify(relative(SRC, path))})`;
      return {
        contents: text
          // esbuild would read each use through a getter.
          .replace(
            /^import \{ (.*) \} from '(node:.*)';$/gm,
            (_, names, name) => `const { ${names.replaceAll(' as ', ': ')} } = require('${name}');`,
          )
          // esbuild then knows what is required.
          .replace('const require = createRequire(import.meta.url);', '')
          .replace(
            /requireOwn\('([\w-]+)', '([\w./-]+)'\)/g,
            (_, name, file) => `require(${JSON.stringify(fileOf(name, file))})`,
          )
          .replace(/\bimport\((?=pathToFileURL\()/g, 'importUrl(')
          .replaceAll('import.meta.resolve(', 'resolve(')
          .replaceAll('import.meta.url', url),
        loader: 'js',
      };
    });
  },
};

function fileOf(name, file) {
  return join(dirname(createRequire(import.meta.url).resolve(name)), file);
}

async function bundle() {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    stdin: { contents: ENTRY, resolveDir: SRC },
    outfile: FILE,
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node20.19',
    external: EXTERNAL,
    plugins: [asFiles],
    // The arguments of `Load` in src/bundle.ts.
    banner: { js: '(function (module, require, urlOf, resolve, importUrl) {' },
    footer: { js: '})' },
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
  });
  // Then Node reads it as one-byte text. What esbuild leaves are characters of regular expressions.
  const text = readFileSync(FILE, 'utf8');
  writeFileSync(
    FILE,
    text.replace(/[^\0-\x7f]/g, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`),
  );
  if (/\bimport\(/.test(text)) throw new Error('the bundle has an import() that this script does not know');
  const packages = new Set(
    Object.keys(metafile.inputs).flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? []),
  );
  for (const name of NEEDED)
    if (![...packages].some((path) => path.endsWith(`/${name}`)))
      throw new Error(`the bundle lacks ${name}: src/ requires it in another way than this script knows`);
  writeFileSync(join(SRC, 'fleet-manager.licenses.txt'), licensesOf([...packages].toSorted()));
}

/** The licenses of bundled packages ask for their text beside the copy. */
function licensesOf(packages) {
  return packages
    .map((path) => {
      const { name, version, license } = JSON.parse(readFileSync(join(ROOT, path, 'package.json'), 'utf8'));
      const file = readdirSync(join(ROOT, path)).find((each) => /^licen[cs]e/i.test(each));
      const text =
        file === undefined ? `License: ${license}\n` : readFileSync(join(ROOT, path, file), 'utf8');
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
