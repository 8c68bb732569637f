import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SandboxCluster } from '../../src/sandbox/sandbox-cluster.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import type { Run } from '../scenario.js';
import type { Caller } from './caller.js';
import { type Entry, type Ledger, RESTART } from './ledger.js';

const NAME = 'fleet';
/** How long the cluster takes to follow an order, in milliseconds: time in which a unit is stopped. */
const CHANGE_MS = 800;
/** How long a restart may wait for the worker that had it before. */
const TIMEOUT_MS = 5 * 60_000;

/** A simulated fleet cluster, each unit of which is restarted once. */
export class Restarts {
  /** The settings of workers that reach the cluster. */
  readonly env: Record<string, string>;
  readonly #cluster: SandboxCluster;
  readonly #units: string[];
  readonly #ledger: Ledger;
  readonly #entries = new Map<string, Entry>();

  static async open(run: Run, ledger: Ledger, units: number): Promise<Restarts> {
    const sandbox = await startSandbox({ units: [], delays: { change: CHANGE_MS } });
    run.teardown(async () => sandbox.stop());
    const folder = mkdtempSync(join(tmpdir(), 'chaos-clusters-'));
    run.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'clusters.json');
    writeFileSync(file, JSON.stringify({ [NAME]: [`http://127.0.0.1:${sandbox.fleetPort}`] }));
    return new Restarts(file, sandbox.cluster, sandbox.cluster.addUnits(units), ledger);
  }

  private constructor(file: string, cluster: SandboxCluster, units: string[], ledger: Ledger) {
    this.env = { CLUSTERS_FILE: file, ALLOWED_HOSTS: '127.0.0.0/8' };
    this.#cluster = cluster;
    this.#units = units;
    this.#ledger = ledger;
  }

  async sendAll(caller: Caller): Promise<void> {
    for (const unit of this.#units) {
      const parameters = { unit_name: unit };
      const sending = { action: RESTART, parameters, cluster: NAME, timeoutMs: TIMEOUT_MS };
      this.#entries.set(unit, await caller.send(sending));
    }
  }

  /**
   * Notes what really happened to the units.
   * @returns the units that do not run
   */
  note(): string[] {
    const origin = { pid: 0, parent: 0 };
    for (const [unit, { id }] of this.#entries) {
      const effects = this.#cluster.history(unit).map(({ at, what }) => ({
        id,
        phase: what === 'stopped' ? ('begin' as const) : ('end' as const),
        at,
        ...origin,
      }));
      this.#ledger.note(effects);
    }
    return this.#units.filter((unit) => this.#cluster.history(unit).at(-1)?.what === 'stopped');
  }
}
