import { appendFileSync } from 'node:fs';

/**
 * Writes a line to the ledger's file, as one write at its end: those of several processes do not mix.
 * @param {string} id of the request
 * @param {'begin' | 'end' | 'stop'} phase
 * @param {string} [unit] that it changes
 */
export function writeEffect(id, phase, unit) {
  const line = JSON.stringify({ id, phase, unit, pid: process.pid, parent: process.ppid, at: Date.now() });
  appendFileSync(process.env.CHAOS_LEDGER, `${line}\n`);
}
