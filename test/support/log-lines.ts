import { Writable } from 'node:stream';
import { refuseSecretsIn } from './planted-secrets.js';
import { Log } from '../../src/telemetry/log.js';

/** A log whose lines a test can read. */
export function logLines(): {
  log: Log;
  lines: Record<string, unknown>[];
  find: (message: RegExp) => Record<string, unknown>[];
} {
  const lines: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      refuseSecretsIn(String(chunk), 'the log');
      for (const line of String(chunk)
        .split('\n')
        .filter((each) => each !== ''))
        lines.push(JSON.parse(line));
      done();
    },
  });
  const find = (message: RegExp) => lines.filter((line) => message.test(String(line.message)));
  return { log: Log.create({ level: 'debug', format: 'json', stream }), lines, find };
}
