import { endProcess } from './end-process.js';

/** Longer than the report of the watchdog takes, in milliseconds. */
const REPORT_MS = 3_000;

setTimeout(endProcess, REPORT_MS);
