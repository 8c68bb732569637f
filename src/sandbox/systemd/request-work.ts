import { CONDITION_PROPERTIES } from '../../clusters/systemd/verb-script.js';
import type { CommandSteps } from '../command-steps.js';

/** The files in the folder of a request, by name. */
export type RequestFiles = Map<string, string>;

/** A script that is the work of a request: it writes files, and goes on whether or not somebody waits. */
export type Work = (files: RequestFiles, args: readonly string[]) => Generator<number, void>;

/** A simulated machine on which work is done. */
export interface RequestMachine {
  /** In milliseconds of the clock. */
  readonly now: number;
  /** Milliseconds since the epoch. */
  readonly wallTime: number;
  /** What a file of the kernel contains. */
  text(path: string): string;
  /** The uptime in hundredths of a second. */
  hundredths(): string;
  /** What systemctl prints for root. */
  systemctl(args: readonly string[]): CommandSteps;
  /** The lines of PID 1 about a unit, oldest first. */
  messages(unit: string): readonly { at: number; text: string }[];
  /** Runs steps that go on whoever waits for them. */
  runOn(steps: Generator<number, void>): void;
  /** Does what is due by now. */
  runDue(): void;
}

/** What systemctl has printed. */
export interface Printed {
  status: number;
  /** Both streams. */
  text: string;
}

export function* runSystemctl(host: RequestMachine, ...args: string[]): Generator<number, Printed> {
  const { status, stdout = '', stderr = '' } = yield* host.systemctl(args);
  return { status, text: `${stdout}${stderr}` };
}

/** What `systemctl show` says of the condition of units. */
export function* conditionsOf(host: RequestMachine, units: readonly string[]): Generator<number, string> {
  const property = `--property=${CONDITION_PROPERTIES.join(',')}`;
  return (yield* runSystemctl(host, 'show', property, '--', ...units)).text;
}

/** `VERB_WORK`. */
export function* changeUnit(
  host: RequestMachine,
  files: RequestFiles,
  [unit = '', verb = '', settle = '0']: readonly string[],
): Generator<number, void> {
  const began = Math.floor(host.wallTime / 1_000) * 1_000;
  files.set('before', yield* conditionsOf(host, [unit]));
  if (verb === 'start' || verb === 'restart') yield* runSystemctl(host, 'reset-failed', '--', unit);
  const { status, text } = yield* runSystemctl(host, verb, '--', unit);
  files.set('output', text);
  files.set('status', `${status}\n${host.hundredths()}\n`);
  files.set('after', yield* conditionsOf(host, [unit]));
  if (settle !== '0') {
    yield Number(settle) * 1_000;
    files.set('later', yield* conditionsOf(host, [unit]));
  }
  if (!/^ActiveState=inactive$/m.test(files.get('after') ?? '')) return;
  const messages = host.messages(unit).filter(({ at }) => at >= began);
  files.set(
    'log',
    messages
      .slice(-20)
      .map((each) => `${each.text}\n`)
      .join(''),
  );
}
