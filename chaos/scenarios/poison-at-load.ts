import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Scenario } from '../scenario.js';
import { within } from '../support/within.js';
import { Worker } from '../support/worker.js';

const WATCHDOG_SECONDS = 2;
/** Only ends what hangs, in milliseconds. */
const HANGS_MS = 60_000;
/** The entry files of plugins, by folder. */
const PLUGINS = { exits: 'process.exit(0);', loops: 'for (;;);' };

export const poisonAtLoad: Scenario = {
  name: 'poison-at-load',
  goal: 'a plugin that ends or blocks the process while it is loaded is named, and the process ends as failed',
  async run(run) {
    const misses: string[] = [];
    const ends = Object.entries(PLUGINS).map(async ([name, source]) => {
      const folder = mkdtempSync(join(tmpdir(), 'chaos-plugins-'));
      run.teardown(() => rmSync(folder, { recursive: true }));
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, 'index.js'), source);
      const begin = performance.now();
      const worker = Worker.start(run, {
        queue: `chaos_load_${randomUUID()}`,
        url: run.broker.url,
        env: { PLUGIN_PATHS: folder, WATCHDOG_SECONDS: String(WATCHDOG_SECONDS) },
      });
      const exit = await within(HANGS_MS, worker.ended, 'no end');
      const took = Math.round(performance.now() - begin);
      if (exit === 'no end' || exit === 0) misses.push(`${name}: the worker ended with ${exit}`);
      if (!worker.lines.some((line) => JSON.stringify(line).includes(join(folder, name))))
        misses.push(`${name}: no line of the log names its folder`);
      return `${name} ${took} ms`;
    });
    const took = await Promise.all(ends);
    return { figures: { 'the end came after': took.join(', ') }, misses };
  },
};
