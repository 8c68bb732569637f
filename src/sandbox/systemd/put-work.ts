import { createHash } from 'node:crypto';
import { conditionsOf, type RequestFiles, runSystemctl } from './request-work.js';
import type { SimulatedHost } from './simulated-host.js';
import { OPERATOR_FOLDER } from './unit-folders.js';

interface NewFile {
  unit: string;
  path: string;
  text: string;
  /** The text that it replaces; undefined: there is none. */
  old: string | undefined;
  wasActive: boolean;
  /** It was started with this file, and systemd has read it. */
  isKept: boolean;
}

/** `PUT_WORK`. */
export function* putFiles(
  host: SimulatedHost,
  files: RequestFiles,
  [then = 'none', settle = '0', ...given]: readonly string[],
): Generator<number, void> {
  const { systemd } = host;
  const { folders } = systemd;
  const all: NewFile[] = [];
  let isChanged = false;
  for (let at = 0; at + 2 < given.length; at += 3) {
    const [unit = '', sum, text = ''] = given.slice(at, at + 3);
    const path = `${OPERATOR_FOLDER}/${unit}`;
    const old = folders.linkAt(path) === undefined ? folders.textAt(path) : undefined;
    if (sumOf(folders.textAt(path)) !== sum || folders.linkAt(path) !== undefined) isChanged = true;
    const loaded = systemd.unit(unit);
    const wasActive = !isTemplate(unit) && RUNS.includes(loaded.active);
    const file = { unit, path, text: Buffer.from(text, 'base64').toString(), old };
    const isKept =
      wasActive && file.text === old && loaded.startedText === old && !systemd.needsReload(loaded);
    all.push({ ...file, wasActive, isKept });
  }
  const units = all.map(({ unit }) => unit);
  let output = '';
  const say = function* (name: string): Generator<number, void> {
    files.set('output', output);
    let text = '';
    for (const unit of units)
      text += `Unit=${unit}\n${isTemplate(unit) ? '' : yield* conditionsOf(host, [unit])}\n`;
    files.set(name, text);
  };
  const log = all.map(({ old }) =>
    old === undefined ? 'none\n' : `file ${Buffer.from(old).toString('base64')}\n`,
  );
  files.set('log', log.join(''));
  const finish = (status: number) => void files.set('status', `${status}\n${host.hundredths()}\n`);
  /** @returns whether all did, and the units that were started or restarted */
  const bring = function* (how: string): Generator<number, { isGood: boolean; brought: NewFile[] }> {
    let isGood = true;
    const brought: NewFile[] = [];
    for (const file of all) {
      const { unit, wasActive, isKept } = file;
      if (isKept || isTemplate(unit) || how === 'none' || (how === 'restart' && !wasActive)) continue;
      if (wasActive && unit.endsWith('.slice')) continue;
      yield* runSystemctl(host, 'reset-failed', '--', unit);
      const { status, text } = yield* runSystemctl(host, wasActive ? 'restart' : 'start', '--', unit);
      output += text;
      if (status !== 0) isGood = false;
      brought.push(file);
    }
    return { isGood, brought };
  };

  yield* say('before');
  if (isChanged) {
    yield* say('after');
    finish(2);
    return;
  }
  for (const { path, text } of all) folders.write(path, text);
  systemd.daemonReload();
  const { isGood: isBrought, brought } = yield* bring(then);
  yield* say('after');
  if (brought.length > 0) {
    if (isBrought) yield Number(settle) * 1_000;
    yield* say('after');
  }
  const isUp = isBrought && brought.every(({ unit }) => isAsItShould(host, unit));
  const isNew = all.every(({ path, text }) => folders.textAt(path) === text);
  const isOwn = all.every(({ path, text, old }) => [text, old].includes(folders.textAt(path)));
  if (isUp || !isOwn) {
    finish(isUp ? (isNew ? 0 : 6) : 3);
    return;
  }
  for (const file of all) {
    const { unit, path, old, wasActive } = file;
    if (!wasActive && brought.includes(file)) yield* runSystemctl(host, 'stop', '--', unit);
    if (old !== undefined) folders.write(path, old);
    else {
      yield* runSystemctl(host, 'stop', '--', unit);
      folders.remove(path);
    }
  }
  systemd.daemonReload();
  for (const { unit, old } of all)
    if (old === undefined) yield* runSystemctl(host, 'reset-failed', '--', unit);
  const { isGood: isBack } = yield* bring('restart');
  yield* say('later');
  finish(isBack ? 1 : 4);
}

/** `DESTROY_WORK`. */
export function* destroyUnit(
  host: SimulatedHost,
  files: RequestFiles,
  [unit = '']: readonly string[],
): Generator<number, void> {
  const { systemd } = host;
  const path = `${OPERATOR_FOLDER}/${unit}`;
  let output = '';
  const finish = function* (status: number): Generator<number, void> {
    files.set('output', output);
    files.set('status', `${status}\n${host.hundredths()}\n`);
    files.set('after', yield* conditionsOf(host, [unit]));
  };
  files.set('before', yield* conditionsOf(host, [unit]));
  if (!systemd.folders.has(path)) {
    yield* finish(isTemplate(unit) && systemd.folders.fragmentOf(unit) === undefined ? 6 : 2);
    return;
  }
  if (systemd.unit(unit).settings.load === 'masked') {
    yield* finish(5);
    return;
  }
  if (!(systemd.folders.linkAt(path) ?? unit).endsWith(unit)) {
    yield* finish(7);
    return;
  }
  if (!isTemplate(unit)) {
    output += (yield* runSystemctl(host, 'stop', '--', unit)).text;
    if (!['inactive', 'failed'].includes(systemd.unit(unit).active)) {
      yield* finish(1);
      return;
    }
  }
  output += (yield* runSystemctl(host, 'disable', '--', unit)).text;
  for (const each of [path, ...systemd.unit(unit).dropIns]) systemd.folders.remove(each);
  systemd.daemonReload();
  yield* runSystemctl(host, 'reset-failed', '--', unit);
  yield* finish(0);
}

const RUNS: readonly string[] = ['active', 'reloading', 'activating'];

function isAsItShould(host: SimulatedHost, unit: string): boolean {
  const { active, sub, settings } = host.systemd.unit(unit);
  if (sub === 'auto-restart') return false;
  return active === 'active' || active === 'reloading' || settings.type === 'oneshot';
}

function isTemplate(unit: string): boolean {
  return unit.includes('@.');
}

function sumOf(text: string | undefined): string {
  return text === undefined ? 'none' : createHash('sha256').update(text).digest('hex');
}
