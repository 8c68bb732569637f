import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import test from 'ava';
import { SETTINGS } from '../../src/settings/settings.js';
import { noteImpossible } from '../support/note-skipped.js';
import { inRepository } from '../support/repository.js';

const UNIT = inRepository('systemd/fleet-manager.service');
/** In tenths, as the option `--threshold` has it. */
const MOST_EXPOSURE = 30;

const run = promisify(execFile);

/** The version of systemd-analyze; undefined: there is none. `--offline` exists since 250. */
async function version(): Promise<number | undefined> {
  const { stdout } = await run('systemd-analyze', ['--version']).catch(() => ({ stdout: '' }));
  const [, number] = /^systemd (\d+)/.exec(stdout) ?? [];
  return number === undefined ? undefined : Number(number);
}

if (((await version()) ?? 0) >= 250) {
  test('the shipped unit is exposed less than 3.0, as systemd-analyze counts it', async (t) => {
    const { stdout } = await run('systemd-analyze', [
      'security',
      '--offline=true',
      '--no-pager',
      `--threshold=${MOST_EXPOSURE}`,
      UNIT,
    ]);
    t.regex(stdout, /Overall exposure level for fleet-manager\.service: [0-2]\.\d OK/);
  });
} else
  noteImpossible('the exposure of the shipped unit', 'there is no systemd-analyze of systemd 250 or later');

test('the watchdog of systemd leaves that of the service the time to report first', async (t) => {
  const unit = await readFile(UNIT, 'utf8');
  const [, seconds] = /^WatchdogSec=(\d+)$/m.exec(unit) ?? [];
  const { watchdogSeconds } = SETTINGS;
  // Its report takes at most 5 s. The latest message to systemd may be a quarter of its time old when the process blocks.
  t.true((Number(seconds) * 3) / 4 > Number(watchdogSeconds.default) + 5);
});
