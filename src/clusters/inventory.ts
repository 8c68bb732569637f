import type { Clusters, NamedCluster } from '../api/clusters.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { WatchedFile } from '../lib/watched-file.js';
import { type ClustersFile, NO_CLUSTERS, readClustersFile } from './clusters-file.js';

export interface InventoryOptions {
  /** The path of the clusters file; undefined: there is none. */
  path: string | undefined;
  /** What is listed without a file; by default nothing. */
  listed?: ClustersFile | undefined;
  /** The port of fleet's API where an endpoint has none. */
  fleetPort: number;
  clock: Clock;
  log: Logger;
}

/** The clusters that the operator lists, in a file that may change while the service runs. */
export class Inventory implements Clusters {
  readonly #file: WatchedFile<ClustersFile> | undefined;
  readonly #listed: ClustersFile;

  /** Reads the file, and logs which of its entries cannot be used. @throws Error that says why the whole file cannot be used */
  constructor({ path, listed = NO_CLUSTERS, fleetPort, clock, log }: InventoryOptions) {
    this.#listed = listed;
    if (path === undefined) return;
    this.#file = new WatchedFile({
      path,
      parse: (text) => {
        const file = readClustersFile(text, fleetPort);
        for (const reason of file.problems) log.warn('cluster entry refused', { file: path, reason });
        return file;
      },
      phrases: { reloaded: 'clusters reloaded', refused: 'clusters refused' },
      clock,
      log,
    });
  }

  /** What the file says now. */
  get file(): ClustersFile {
    return this.#file?.content ?? this.#listed;
  }

  list(): NamedCluster[] {
    const { names, machines } = this.file;
    return [...names]
      .map(([token, name]) => {
        const listed = machines.get(token);
        const kind = listed === undefined ? ('fleet' as const) : ('systemd' as const);
        return { name, kind, machines: listed?.length ?? null };
      })
      .toSorted((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** Looks every few seconds whether the file has changed, until `stop`. */
  start(): void {
    this.#file?.start();
  }

  stop(): void {
    this.#file?.stop();
  }

  /** Reads the file now. */
  reload(): void {
    this.#file?.reload();
  }
}
