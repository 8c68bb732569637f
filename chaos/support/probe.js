/**
 * Loaded into a worker before the service (`node --expose-gc --import`): at SIGUSR2 it collects garbage, and writes what the
 * process holds to the file of CHAOS_PROBE.
 */
import { renameSync, writeFileSync } from 'node:fs';

const file = process.env.CHAOS_PROBE;

process.on('SIGUSR2', () => {
  // Twice: what finalizers free is only collected then.
  globalThis.gc();
  setImmediate(() => {
    globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    const resources = process.getActiveResourcesInfo();
    const count = (name) => resources.filter((each) => each === name).length;
    const held = {
      bytes: heapUsed + external,
      sockets: count('TCPSocketWrap') + count('TLSWrap'),
      timers: count('Timeout'),
      listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
    };
    // At once: the suite reads it as soon as it is there.
    writeFileSync(`${file}.part`, JSON.stringify(held));
    renameSync(`${file}.part`, file);
  });
});
