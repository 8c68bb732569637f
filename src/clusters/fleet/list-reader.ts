import { ActionError } from '../../api/action-error.js';
import type { Cluster } from '../../api/cluster.js';
import { isUnitName } from '../../api/grammar.js';
import type { Clock } from '../../lib/clock.js';
import { linkSignals } from '../../lib/linked-signal.js';
import { remember } from '../../lib/remember.js';
import { SharedRuns } from '../../lib/shared-runs.js';
import { type FleetAnswer, type FleetRead, NOT_NEEDED } from './cluster-http.js';
import { jsonOf } from './fleet-answer.js';
import { type Page, readPage, type RowReader } from './fleet-responses.js';
import { ListRoom } from './list-room.js';
import { type StoredRow, storedRows } from './stored-rows.js';
import { type ListExtent, readWholeList, type WholeList } from './whole-list.js';

const MAX_COLLECTION_SIZE = 32 * 1024 * 1024;
/** fleet's offsets have 16 bits, and each page is read at most about three times. */
const MAX_ROWS_READ = 4 * 65_536;
/** How many flaws of a list are kept. */
export const MAX_FLAWS = 1_000;
/** A page of a cluster of 5,000 units takes up to 800 ms: the server reads the whole collection for it. */
const PAGE_HEDGE_MS = 1_000;
/** Pages that are read at the same time are slower than the first one, and than those that other lists leave alone. */
const PAGE_SLOWDOWN = 4;
const CROWD_SLOWDOWN = 2;
/** The number of lists of which is remembered what to expect. */
const MAX_REMEMBERED = 1_000;

/** How to read a collection. */
export interface ListRequest<Row> extends RowReader<Row> {
  path: string;
  /** Gives the name of a row that must be a unit name. */
  nameOf?: (row: Row) => string;
  /** Filters; without them the collection is whole. */
  query?: Record<string, string | undefined>;
  /** Reads from this host only, `HOST:PORT`. */
  from?: string;
}

export interface ReadList extends Readonly<WholeList<StoredRow>> {
  /** What is wrong in it, for people. */
  flaws: readonly string[];
  /** By the keys of the rows, the names that are no unit names. */
  invalidNames: ReadonlyMap<string, string>;
}

/** What to expect of a list that was read before. */
interface Expected extends ListExtent {
  /** How long to wait for a host. */
  hedgeMs: number;
}

type Read = <T>(cluster: Cluster, call: FleetRead<T> & { from?: string }) => Promise<FleetAnswer<T>>;

/** The host that is left does not know the page of the one that served the list, as with another `token_limit`. */
class PageUnknown extends Error {
  override readonly name = 'PageUnknown';
}

/**
 * Reads whole collections of fleet's API with little memory: calls that come while a collection of a cluster is read share
 * the next reading of it, and the lists in progress have one room.
 */
export class ListReader {
  readonly #read: Read;
  readonly #clock: Clock;
  readonly #shared = new SharedRuns();
  readonly #room = new ListRoom();
  /** By cluster and path. */
  readonly #expected = new Map<string, Expected>();

  constructor(read: Read, clock: Clock) {
    this.#read = read;
    this.#clock = clock;
  }

  /** @throws ActionError as `ClusterHttp.read` */
  async list<Row>(cluster: Cluster, signal: AbortSignal, request: ListRequest<Row>): Promise<ReadList> {
    const isFiltered = Object.values(request.query ?? {}).some((value) => value !== undefined);
    if (isFiltered || request.from !== undefined) return this.#again(cluster, signal, request);
    const key = `${cluster.key} ${request.path}`;
    return this.#shared.run(key, signal, async (run) => {
      // Without room, a list begins with its first page alone.
      const expected = this.#room.hasRoom ? this.#expected.get(key) : undefined;
      this.#expected.delete(key);
      const { next, ...list } = await this.#again(cluster, run, request, expected);
      if (next !== undefined) remember(this.#expected, key, next, MAX_REMEMBERED);
      return list;
    });
  }

  /** A list that another host cannot continue is read anew, once. */
  async #again<Row>(
    cluster: Cluster,
    signal: AbortSignal,
    request: ListRequest<Row>,
    expected?: Expected,
  ): Promise<ReadList & { next?: Expected }> {
    try {
      return await this.#once(cluster, signal, request, expected);
    } catch (error) {
      if (!(error instanceof PageUnknown)) throw error;
    }
    try {
      return await this.#once(cluster, signal, request);
    } catch (error) {
      if (error instanceof PageUnknown) throw new ActionError('cluster_unhealthy', error.message);
      throw error;
    }
  }

  async #once<Row>(
    cluster: Cluster,
    signal: AbortSignal,
    { path, query, from, nameOf, ...reader }: ListRequest<Row>,
    expected?: Expected,
  ): Promise<ReadList & { next?: Expected }> {
    // Ends the requests for the other pages when one page fails, or after the last page.
    const pages = linkSignals(signal);
    const list = this.#room.begin();
    const begun = this.#clock.now();
    let firstMs: number | undefined;
    let slowestMs = 0;
    let rowsRead = 0;
    const flaws = new Set<string>();
    const invalidNames = new Map<string, string>();
    const noteNames = (rows: readonly Row[]) => {
      if (nameOf === undefined) return;
      for (const row of rows) {
        const name = nameOf(row);
        if (!isUnitName(name)) invalidNames.set(reader.keyOf(row), name);
      }
    };
    const readAnswer = async (nextPageToken: string | undefined) => {
      const answer = await this.#read(cluster, {
        path,
        query: { ...query, nextPageToken },
        read: (response) => {
          // By the first answer, without the time for a second opinion.
          firstMs ??= this.#clock.now() - begun;
          const { value, flaws: wrong } = readPage(jsonOf(response), reader);
          // Here, for each page: for a whole list at once it would block the event loop.
          noteNames(value.rows);
          const page = { ...value, rows: storedRows(value.rows, reader.keyOf) };
          // A character has at least one byte.
          return { value: { page, characters: response.body.length }, flaws: wrong };
        },
        refusedWith: nextPageToken === undefined ? undefined : 400,
        hedgeMs: Math.max(
          expected?.hedgeMs ?? PAGE_HEDGE_MS,
          PAGE_SLOWDOWN * (firstMs ?? 0),
          CROWD_SLOWDOWN * slowestMs,
        ),
        from,
        signal: pages.signal,
      });
      if (answer.refusal !== undefined)
        throw new PageUnknown(
          `No host can continue the list of ${reader.of} that another one began (HTTP 400 ${answer.refusal.message})`,
        );
      slowestMs = Math.max(slowestMs, answer.tookMs);
      rowsRead += answer.value.page.rows.length + answer.flaws.length;
      if (rowsRead > MAX_ROWS_READ)
        throw invalidList(`The cluster's ${reader.of} are more than fleet can list`);
      for (const flaw of answer.flaws) if (flaws.size < MAX_FLAWS) flaws.add(`${flaw} (${answer.host})`);
      return answer.value;
    };
    const read = async (nextPageToken: string | undefined): Promise<Page<StoredRow>> => {
      const { page } = await list.page(pages.signal, async () => readAnswer(nextPageToken));
      if (list.read > MAX_COLLECTION_SIZE)
        throw invalidList(
          `The cluster's ${reader.of} have more than ${MAX_COLLECTION_SIZE} characters of JSON`,
        );
      return page;
    };
    try {
      const keyOf = ({ key }: StoredRow) => key;
      const { extent, ...whole } = await readWholeList({ read, keyOf, expected });
      const next = extent && { ...extent, hedgeMs: Math.max(PAGE_HEDGE_MS, CROWD_SLOWDOWN * slowestMs) };
      return { ...whole, flaws: [...flaws], invalidNames, next };
    } finally {
      pages.abort(NOT_NEEDED);
      pages.unlink();
      list.end();
    }
  }
}

export function invalidList(reason: string): ActionError {
  return new ActionError('cluster_answer_invalid', reason);
}
