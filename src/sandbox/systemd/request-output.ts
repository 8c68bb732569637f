import { REQUEST_SECTIONS } from '../../clusters/systemd/request-script.js';
import type { CommandSteps } from '../command-steps.js';
import { sectionsText } from './survey-output.js';
import type { RequestFiles, RequestMachine, Work } from './request-work.js';

/** As long as a request is kept, in milliseconds. */
const KEPT_MS = 24 * 3_600_000;
const LOOK_MS = 100;

/** What machines keep of requests, and what `REQUEST_SCRIPT` does and prints. */
export class MachineRequests {
  readonly #host: RequestMachine;
  /** By the text of their scripts. */
  readonly #works: ReadonlyMap<string, Work>;
  readonly #requests = new Map<string, { at: number; files: RequestFiles }>();

  constructor(machine: RequestMachine, works: ReadonlyMap<string, Work>) {
    this.#host = machine;
    this.#works = works;
  }

  /** @param isRoot else nothing can be kept */
  *run(
    [mark = '', key = '', how = '', boot = '', uptime = '', wait = '', work = '', ...args]: readonly string[],
    { isRoot }: { isRoot: boolean },
  ): CommandSteps {
    if (!isRoot)
      return {
        status: 77,
        stderr: "mkdir: cannot create directory '/var/lib/fleet-manager': Permission denied\n",
      };
    const script = this.#works.get(work);
    if (script === undefined)
      return { status: 127, stderr: 'sandbox: a simulated machine does not know this work of a request\n' };
    const host = this.#host;
    const last = host.now + Number(wait) * 1_000;
    for (const [each, { at }] of this.#requests) if (at < host.now - KEPT_MS) this.#requests.delete(each);
    const tell = (outcome: string) => ({ status: 0, stdout: this.#told(mark, key, outcome) });
    const older = this.#requests.get(key);
    if (how === 'first' && older !== undefined && this.#isOlder(older.files, boot, uptime)) {
      while (!older.files.has('done')) {
        if (host.now >= last) return tell('running');
        yield LOOK_MS;
        host.runDue();
      }
      this.#requests.delete(key);
    }
    if (!this.#requests.has(key)) {
      const files: RequestFiles = new Map([
        ['began', `${host.text('/proc/sys/kernel/random/boot_id')}${host.hundredths()}\n`],
      ]);
      this.#requests.set(key, { at: host.now, files });
      host.runOn(toTheEnd(script(files, args), () => files.set('done', `${host.hundredths()}\n`)));
    }
    while (this.#requests.get(key)?.files.has('done') !== true) {
      if (host.now >= last) return tell('running');
      yield LOOK_MS;
      host.runDue();
    }
    return tell('ended');
  }

  /** Whether a request with the same key had begun before this one came. */
  #isOlder(files: RequestFiles, boot: string, uptime: string): boolean {
    const [beganBoot = '', beganUptime = ''] = (files.get('began') ?? '').split('\n');
    const now = this.#host.text('/proc/sys/kernel/random/boot_id').trim();
    if (beganBoot !== boot) return beganBoot !== now;
    return Number(beganUptime) < Number(uptime);
  }

  #told(mark: string, key: string, outcome: string): string {
    const files = this.#requests.get(key)?.files;
    const text = (name: string) => {
      if (name === 'outcome') return `${outcome}\n`;
      return name === 'machine'
        ? this.#host.text('/proc/sys/kernel/random/boot_id')
        : (files?.get(name) ?? '');
    };
    return sectionsText(
      mark,
      REQUEST_SECTIONS.map((name) => [name, text(name)] as const),
    );
  }
}

function* toTheEnd(steps: Generator<number, void>, atEnd: () => void): Generator<number, void> {
  yield* steps;
  atEnd();
}
