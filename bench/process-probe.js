/**
 * Loaded into the service before it starts (`NODE_OPTIONS=--import=...`). To who connects to the socket PROBE_SOCKET it writes, as JSON,
 * how late the event loop was since the last time, and the most memory that the heap and its buffers took.
 */
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { isMainThread } from 'node:worker_threads';

// Threads and handler processes of the service load it too.
if (isMainThread && process.argv.at(-1) === 'serve') start(process.env.PROBE_SOCKET);

function start(socket) {
  const INTERVAL_MS = 1;
  let lateness = [];
  let last = performance.now();
  let peak = { heap: 0, external: 0 };

  // Not `monitorEventLoopDelay`, whose histogram cannot tell what share of the time was lost.
  const timer = setInterval(() => {
    const now = performance.now();
    lateness.push(Math.max(0, now - last - INTERVAL_MS));
    last = now;
    if (lateness.length % 10 === 0) {
      const { heapUsed, external } = process.memoryUsage();
      peak = { heap: Math.max(peak.heap, heapUsed), external: Math.max(peak.external, external) };
    }
  }, INTERVAL_MS);
  timer.unref();

  const server = createServer((connection) => {
    const report = { lateness, peak };
    lateness = [];
    peak = { heap: 0, external: 0 };
    connection.on('error', () => {});
    connection.end(JSON.stringify(report));
  });
  server.listen(socket);
  server.unref();
  process.on('exit', () => rmSync(socket, { force: true }));
}
