import type { Clock } from '../lib/clock.js';
import { isAnswered, type ManagerId, type RpcRecord } from './manager-responses.js';
import type { ManagerCallOptions, ManagerClient } from './manager-client.js';
import { ManagerError } from './manager-error.js';

export interface RecordCallerOptions {
  manager: Pick<ManagerClient, 'createRecord' | 'record' | 'deleteRecord'>;
  clock: Clock;
}

/** A reply in the record of its request. */
export interface RecordedReply extends RpcRecord {
  status: 'completed' | 'error';
}

const POLL_MS = 1_000;

/**
 * The caller's side of a request whose reply comes through the Manager: create a record, publish the request with the
 * record's id, poll until the record contains the reply, delete the record.
 */
export class RecordCaller {
  readonly #options: RecordCallerOptions;

  constructor(options: RecordCallerOptions) {
    this.#options = options;
  }

  /**
   * Creates the record of a request.
   * @param requestBody the request's `request_body`
   * @returns the id that goes into the request's message
   * @throws ManagerError, or the signal's reason when that is aborted
   */
  async create(requestBody: object, { signal }: ManagerCallOptions): Promise<ManagerId> {
    const envelope = {
      queue_name: '',
      id: null,
      status: 'not_started',
      request_body: requestBody,
      response_body: null,
    };
    return this.#options.manager.createRecord(envelope, { signal });
  }

  /**
   * Waits for the reply. A poll that fails for a temporary reason is repeated: it says nothing about the request.
   * @throws ManagerError that is not temporary, such as `not_found` when the record no longer exists
   * @throws the signal's reason when that is aborted
   */
  async poll(id: ManagerId, { signal }: ManagerCallOptions): Promise<RecordedReply> {
    const { manager, clock } = this.#options;
    for (;;) {
      const record = await unlessTemporary(manager.record(id, { signal }));
      if (record !== undefined && isAnswered(record)) return record;
      await clock.sleep(POLL_MS, { signal });
    }
  }

  /**
   * Deletes the record; does nothing when it no longer exists.
   * @throws ManagerError, or the signal's reason when that is aborted
   */
  async delete(id: ManagerId, { signal }: ManagerCallOptions): Promise<void> {
    await this.#options.manager.deleteRecord(id, { signal });
  }
}

async function unlessTemporary<T>(lookup: Promise<T>): Promise<T | undefined> {
  try {
    return await lookup;
  } catch (error) {
    if (error instanceof ManagerError && error.temporary) return undefined;
    throw error;
  }
}
