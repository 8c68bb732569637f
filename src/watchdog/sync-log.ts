import { type LogFormat, formatLine } from '../telemetry/log-line.js';
import { writeWhole } from '../lib/write-whole.js';

const STDERR = 2;
/** How long a full pipe is tried, in milliseconds. */
const FULL_MS = 500;
const RETRY_MS = 20;

/**
 * A log for a process that ends: it writes each line at once, from any thread, also while the main thread is blocked. A
 * line that cannot be written is lost.
 */
export class SyncLog {
  readonly #format: LogFormat;

  constructor(format: LogFormat) {
    this.#format = format;
  }

  error(message: string, fields: Record<string, unknown>): void {
    const line = { time: new Date().toISOString(), level: 'error', message, ...fields };
    const bytes = Buffer.from(`${formatLine(this.#format, line)}\n`);
    for (let waitedMs = 0; !written(bytes) && waitedMs < FULL_MS; waitedMs += RETRY_MS) sleepNow(RETRY_MS);
  }
}

/** Whether there is nothing more to try. */
function written(bytes: Uint8Array): boolean {
  try {
    writeWhole(STDERR, bytes);
    return true;
  } catch (error) {
    // The pipe is full. After any other error nobody reads it.
    return !(error instanceof Error && 'code' in error && error.code === 'EAGAIN');
  }
}

function sleepNow(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
