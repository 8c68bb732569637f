/** What really happened to a unit, whatever fleet shows of it. */
export interface UnitEvent {
  /** In the clock's milliseconds. */
  at: number;
  machineID: string;
  /** `started`: systemd began to start it. `stopped`: it no longer runs, for whatever reason. */
  what: 'started' | 'stopped';
}

const MAX_EVENTS = 10_000;

/** The starts and stops of all units. Units that run when they are added have no start. */
export class UnitHistory {
  readonly #events: (UnitEvent & { name: string })[] = [];

  add(name: string, event: UnitEvent): void {
    this.#events.push({ name, ...event });
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
  }

  /** Oldest first; of all units only the latest 10,000 are kept. */
  of(name: string): UnitEvent[] {
    return this.#events
      .filter((event) => event.name === name)
      .map(({ at, machineID, what }) => ({ at, machineID, what }));
  }
}
