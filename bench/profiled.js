/**
 * Loaded into the service with `--import`: the first SIGUSR2 starts a CPU profile, the second one writes it to the file
 * that PROFILE_FILE names. So the profile has neither the start nor the first requests.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { isMainThread } from 'node:worker_threads';

const SAMPLE_MICROS = 200;

const session = new Session();
let running = false;

function onSignal() {
  if (!running) {
    session.post('Profiler.start');
    running = true;
    return;
  }
  session.post('Profiler.stop', (error, { profile } = {}) => {
    if (error !== null) throw error;
    const file = process.env.PROFILE_FILE;
    writeFileSync(`${file}.part`, JSON.stringify(profile));
    renameSync(`${file}.part`, file);
  });
}

if (isMainThread) {
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: SAMPLE_MICROS });
  process.on('SIGUSR2', onSignal);
}
