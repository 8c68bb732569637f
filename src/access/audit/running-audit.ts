import type { BeforeChange, BeforeNestedChange } from '../../core/before-change.js';
import type { CallEventBus } from '../../core/call-events.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import { Audit } from './audit.js';
import { AuditFile } from './audit-file.js';
import { AuditOutput } from './audit-output.js';
import { AuditQueue } from './audit-queue.js';
import type { AuditSink } from './audit-sink.js';

/** A stream on the broker. */
export interface AuditStream extends AuditSink {
  /** Starts to connect. */
  start(): void;
  /** Call it when the service has another broker. */
  brokersChanged(): void;
}

export interface AuditSettings {
  /** `stderr`, `stream`, or the path of a file. */
  target: string;
  required: boolean;
  reads: boolean;
}

export interface RunningAuditOptions {
  /** Opens the stream. */
  stream: () => Promise<AuditStream>;
  stderr: NodeJS.WritableStream;
  events: CallEventBus;
  /** The name and the version of this worker. */
  worker: string;
  version: string;
  clock: Clock;
  log: Logger;
}

/** How long a reload waits for lines to be written, in milliseconds. */
const FLUSH_MS = 1_000;

/** The audit of a service, with the place where its lines are kept. */
export class RunningAudit {
  readonly beforeChange: BeforeChange;
  readonly beforeNested: BeforeNestedChange;
  readonly #queue: AuditQueue;
  readonly #log: Logger;
  readonly #stream: AuditStream | undefined;
  readonly #file: AuditFile | undefined;

  /** @throws Error when the file cannot be used */
  static async open(settings: AuditSettings, options: RunningAuditOptions): Promise<RunningAudit> {
    const { target, required } = settings;
    if (target === 'stream') return new RunningAudit(settings, options, { stream: await options.stream() });
    if (target === 'stderr') return new RunningAudit(settings, options, {});
    return new RunningAudit(settings, options, {
      file: await AuditFile.open({ path: target, sync: required }),
    });
  }

  private constructor(
    { required, reads }: AuditSettings,
    { stderr, events, worker, version, clock, log }: RunningAuditOptions,
    { stream, file }: { stream?: AuditStream; file?: AuditFile },
  ) {
    this.#log = log;
    this.#stream = stream;
    this.#file = file;
    const sink = stream ?? file ?? new AuditOutput(stderr);
    const gapLine = (lines: number) => Audit.gapLine(lines, { worker, version, clock });
    this.#queue = new AuditQueue({ sink, gapLine, clock, log });
    const audit = new Audit({ events, queue: this.#queue, required, reads, worker, version, clock });
    this.beforeChange = audit.beforeChange;
    this.beforeNested = audit.beforeNested;
  }

  start(): void {
    this.#stream?.start();
  }

  brokersChanged(): void {
    this.#stream?.brokersChanged();
  }

  /** Opens the file again, if it is one: another program may have renamed it. Never rejects. */
  async reload(): Promise<void> {
    if (this.#file === undefined) return;
    // What was told before the renaming belongs into that file.
    await this.#queue.flush(FLUSH_MS);
    try {
      await this.#file.reopen();
    } catch (error) {
      this.#log.error('audit file not reopened', { reason: reasonOf(error) });
    }
  }

  /** Writes what is not written yet, for at most this long in milliseconds. */
  async close(withinMs: number): Promise<void> {
    await this.#queue.close(withinMs);
  }
}
