/**
 * Adds the bundle to the build: all that the process of the service runs, in one file, with the packages that it needs at the start,
 * and the code that V8 makes of it (docs/decisions/0026-the-build-has-a-bundle.md).
 */
import { fork } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');
const SRC = join(DIST, 'src');
/** The modules as CommonJS, while the bundle is made of them. */
const STAGE = join(DIST, 'commonjs');
const FILE = join(SRC, 'fleet-manager.cjs');

/** Packages that it must contain. */
const NEEDED = ['amqplib', 'reflect-metadata', 'tsyringe', 'winston', 'winston-transport', 'yup'];
/** CommonJS packages that the service does not need at the start; they are loaded from their own files. */
const EXTERNAL = ['fastify', 'ssh2', 'undici', '@onify/fake-amqplib', 'commander'];

const plugins = readdirSync(join(ROOT, 'dist/plugins'));

const ENTRY = `module.exports = { commands: async () => require('./src/commands/main.js') };`;
const BUNDLED_PLUGINS = `
import { fileURLToPath } from 'node:url';
const fileOf = (name) => fileURLToPath(new URL('../../plugins/' + name + '/index.js', import.meta.url));
export const bundledPlugins = new Map([
  ${plugins.map((name) => `[fileOf('${name}'), () => import('../../plugins/${name}/index.js')],`).join('\n')}
]);
`;

/**
 * A module as CommonJS. What it imports are constants then: esbuild's own bundles of ES modules have variables for them, and for
 * classes, which makes a request a tenth slower. No module of this package depends on one that depends on it.
 */
function asCommonJs(text, path) {
  const exported = [];
  const names = (list) => list.replaceAll(' as ', ': ');
  const code = text
    .replace(/^import (?:(\w+)(?:, )?)?(?:\{(.*)\})? from '(.*)';$/gm, (_, whole, some, from) =>
      [
        whole !== undefined &&
          `const ${from === 'ky' ? `{ default: ${whole} }` : whole} = require('${from}');`,
        some !== undefined && `const { ${names(some)} } = require('${from}');`,
      ]
        .filter(Boolean)
        .join(' '),
    )
    .replace(/^import \* as (\w+) from '(.*)';$/gm, "const $1 = require('$2');")
    .replace(
      /^export \{ (.*) \} from '(.*)';$/gm,
      (_, list, from) => `Object.assign(exports, (({ ${list} }) => ({ ${list} }))(require('${from}')));`,
    )
    .replace(/^export \{(.*)\};$/gm, 'Object.assign(exports, {$1});')
    .replace(/^export default /gm, 'exports.default = ')
    .replace(/^export ((?:async )?function\*?|class|const|let) (\{ .* \}|\w+)/gm, (_, kind, name) => {
      exported.push(name.replace(/[{}]/g, ''));
      return `${kind} ${name}`;
    })
    .replace(/\bimport\('(\.[^']*)'\)/g, "Promise.resolve().then(() => require('$1'))")
    .replace(/\bimport\((?=pathToFileURL\()/g, 'importUrl(')
    // esbuild then knows what is required.
    .replace('const require = createRequire(import.meta.url);', '')
    .replace(
      /requireOwn\('([\w-]+)', '([\w./-]+)'\)/g,
      (_, name, file) => `require(${JSON.stringify(fileOf(name, file))})`,
    )
    .replaceAll('import.meta.resolve(', 'resolve(')
    // Each module keeps its address.
    .replaceAll('import.meta.url', `urlOf(${JSON.stringify(path)})`);
  if (/^(import|export)\b|\bimport\./m.test(code))
    throw new Error(`${path} has an import or export that this script does not know`);
  return `${code}\nObject.assign(exports, { ${exported.join(', ')} });\n`;
}

function fileOf(name, file) {
  return join(dirname(createRequire(import.meta.url).resolve(name)), file);
}

function stage() {
  const files = ['src', 'plugins'].flatMap((folder) =>
    readdirSync(join(DIST, folder), { recursive: true })
      .filter((name) => name.endsWith('.js'))
      .map((name) => join(folder, name))
      .filter((name) => !['src/cli.js', 'src/bundle.js'].includes(name)),
  );
  for (const file of files) {
    const isList = file === 'src/core/bundled-plugins.js';
    const text = isList ? BUNDLED_PLUGINS : readFileSync(join(DIST, file), 'utf8');
    mkdirSync(dirname(join(STAGE, file)), { recursive: true });
    writeFileSync(join(STAGE, file), asCommonJs(text, relative('src', file)));
  }
  writeFileSync(join(STAGE, 'package.json'), '{"type":"commonjs"}');
}

async function bundle() {
  stage();
  const { metafile } = await build({
    absWorkingDir: ROOT,
    stdin: { contents: ENTRY, resolveDir: STAGE },
    outfile: FILE,
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node20.19',
    external: EXTERNAL,
    // The arguments of `Load` in src/bundle.ts.
    banner: { js: '(function (module, require, urlOf, resolve, importUrl) {' },
    footer: { js: '})' },
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
  });
  rmSync(STAGE, { recursive: true });
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
