import type { Clock } from '../lib/clock.js';
import { WaitingLine } from './waiting-line.js';

/** An item that waits for its turn; `start` is called when it may run. */
export interface Waiting {
  start(): void;
}

export interface FairQueueOptions {
  /** How many items run at the same time, in total and per lane. */
  total: number;
  perLane: number;
  clock: Clock;
  /** Called when a lane becomes unresponsive. */
  onUnresponsive?: (lane: string) => void;
}

interface Lane {
  readonly name: string;
  readonly waiting: WaitingLine<Waiting>;
  running: number;
  /** How many of them wait for something else than the lane. */
  idle: number;
  /** How many items are held besides: they share the run of another item. */
  sharing: number;
  /** Since when it has run without a response. */
  noResponseSince: number;
  /** Its running items are not counted in the total. */
  uncounted: boolean;
}

/** The lane of items without a cluster: it is never unresponsive. */
export const NO_CLUSTER = '';
/** A lane that runs, but has had no response for this long, is unresponsive. */
const UNRESPONSIVE_MS = 1_000;
/** How often lanes are checked for responses. */
const CHECK_MS = 250;
/** How many items run in a lane that has had no response yet. */
const NEW_LANE_ITEMS = 4;
/** The share of the total that lanes without a response may use together. */
const NEW_LANES_SHARE = 0.5;
/** The share of the total that is left to lanes in which few items run. */
const RESERVED_SHARE = 0.2;
const MAX_REMEMBERED = 1_000;

/**
 * Limits how many items run at the same time, in total and per lane. Lanes take turns, so that a full lane delays only
 * itself; a lane is first in, first out, but for items with a priority.
 *
 * A lane that gets no responses cannot use up the total either. It begins with few items, and gets more with its first
 * response. What runs in a lane without a response for a second is no longer counted: it waits and does no work.
 */
export class FairQueue {
  readonly #options: FairQueueOptions;
  readonly #reserved: number;
  readonly #newTotal: number;
  readonly #lanes = new Map<string, Lane>();
  /** The lanes whose latest items had responses; the oldest is forgotten when there are too many. */
  readonly #responded = new Set<string>();
  /** The lanes with a waiting item and free capacity, in the order of their turns. */
  readonly #turns = new Set<Lane>();
  /** The running items that are counted, of all lanes and of those without a response. */
  #running = 0;
  #runningNew = 0;
  #cancelCheck: (() => void) | undefined;
  #paused = false;

  constructor(options: FairQueueOptions) {
    this.#options = options;
    this.#reserved = Math.floor(options.total * RESERVED_SHARE);
    this.#newTotal = Math.max(NEW_LANE_ITEMS, Math.ceil(options.total * NEW_LANES_SHARE));
  }

  /** The number of items in a lane: waiting, running and sharing. */
  count(lane: string): number {
    const found = this.#lanes.get(lane);
    return found === undefined ? 0 : countOf(found);
  }

  /** Whether items of the lane run and have had no response for a second. */
  isUnresponsive(lane: string): boolean {
    const found = this.#lanes.get(lane);
    return found !== undefined && this.#isUnresponsive(found);
  }

  /** How long items of the lane have run without a response, in milliseconds. */
  noResponseMs(lane: string): number {
    const found = this.#lanes.get(lane);
    if (found === undefined || found.running === found.idle) return 0;
    return this.#options.clock.now() - found.noResponseSince;
  }

  /** The lanes without a response, and how many items they have: waiting, running and sharing. */
  get withoutResponse(): { lanes: number; items: number } {
    let [lanes, items] = [0, 0];
    for (const lane of this.#lanes.values()) {
      if (this.hasResponded(lane.name) && !this.#isUnresponsive(lane)) continue;
      lanes++;
      items += countOf(lane);
    }
    return { lanes, items };
  }

  /** Whether the lane has had a response, as far as it is remembered. */
  hasResponded(lane: string): boolean {
    return lane === NO_CLUSTER || this.#responded.has(lane);
  }

  /** Starts no items until `resume`. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#startNext();
  }

  /**
   * Adds an item; starts it immediately or when its turn comes.
   * @param priority items of the same lane with a lower one, or none, begin after it
   */
  enter(lane: string, item: Waiting, priority?: number): void {
    const found = this.#laneOf(lane);
    // At once, when no other item waits that could start too.
    if (this.#turns.size === 0 && this.#mayStart(found)) {
      this.#takePlace(found);
      item.start();
    } else {
      found.waiting.add(item, priority);
      this.#updateTurn(found);
      this.#startNext();
    }
    this.#scheduleCheck();
  }

  #mayStart(lane: Lane): boolean {
    return (
      !this.#paused && lane.waiting.size === 0 && lane.running < this.#limitOf(lane) && this.#hasRoom(lane)
    );
  }

  /** Counts an item that starts now. */
  #takePlace(lane: Lane): void {
    if (lane.running === lane.idle) lane.noResponseSince = this.#options.clock.now();
    lane.running++;
    if (!lane.uncounted) this.#count(lane, 1);
  }

  /** Removes a waiting item. @returns false when it was not waiting */
  withdraw(lane: string, item: Waiting): boolean {
    const found = this.#lanes.get(lane);
    if (found === undefined || !found.waiting.delete(item)) return false;
    this.#updateTurn(found);
    this.#tidy(found);
    this.#scheduleCheck();
    return true;
  }

  /** Call this when the number of items changes that share the run of another item of the lane, and so need no place. */
  share(lane: string, change: number): void {
    const found = this.#laneOf(lane);
    found.sharing += change;
    this.#tidy(found);
    this.#scheduleCheck();
  }

  /** Call this when a running item begins to wait for something else: that the lane does not respond to it means nothing then. */
  waits(lane: string): void {
    this.#laneOf(lane).idle++;
  }

  /** Call this when that wait has ended. */
  works(lane: string): void {
    const found = this.#laneOf(lane);
    if (found.running === found.idle) found.noResponseSince = this.#options.clock.now();
    found.idle--;
  }

  /** Call this when an item that has left goes on. It does so at once, also above the limits. */
  rejoin(lane: string): void {
    const found = this.#laneOf(lane);
    if (found.running === found.idle) found.noResponseSince = this.#options.clock.now();
    found.running++;
    if (!found.uncounted) this.#count(found, 1);
    this.#updateTurn(found);
    this.#scheduleCheck();
  }

  /** Call this once for each started item, when it has ended, or waits long for what has nothing to do with the lane. */
  leave(lane: string): void {
    const found = this.#lanes.get(lane);
    if (found === undefined || found.running === 0) throw new Error('nothing runs in this lane');
    found.running--;
    if (!found.uncounted) this.#count(found, -1);
    if (found.running === 0) found.uncounted = false;
    this.#updateTurn(found);
    this.#tidy(found);
    this.#startNext();
  }

  /** Call this when an item of the lane has had a response. */
  responded(lane: string): void {
    const found = this.#lanes.get(lane);
    if (found === undefined) return this.#remember(lane);
    found.noResponseSince = this.#options.clock.now();
    if (this.hasResponded(lane)) return;
    if (!found.uncounted) this.#count(found, -found.running);
    found.uncounted = false;
    this.#remember(lane);
    this.#count(found, found.running);
    this.#updateTurn(found);
    this.#startNext();
  }

  #laneOf(name: string): Lane {
    const found = this.#lanes.get(name);
    if (found !== undefined) return found;
    const lane: Lane = {
      name,
      waiting: new WaitingLine(),
      running: 0,
      idle: 0,
      sharing: 0,
      noResponseSince: 0,
      uncounted: false,
    };
    this.#lanes.set(name, lane);
    return lane;
  }

  #isUnresponsive({ name, running, idle, noResponseSince }: Lane): boolean {
    return (
      name !== NO_CLUSTER && running > idle && this.#options.clock.now() - noResponseSince >= UNRESPONSIVE_MS
    );
  }

  #limitOf(lane: Lane): number {
    const { perLane } = this.#options;
    return this.hasResponded(lane.name) ? perLane : Math.min(perLane, NEW_LANE_ITEMS);
  }

  /** Gives the lane a turn, or takes it back, when what waits or runs in it, or its limit, has changed. */
  #updateTurn(lane: Lane): void {
    if (lane.waiting.size > 0 && lane.running < this.#limitOf(lane)) this.#turns.add(lane);
    else this.#turns.delete(lane);
  }

  /** Adds to the running items that are counted. */
  #count(lane: Lane, items: number): void {
    this.#running += items;
    if (!this.hasResponded(lane.name)) this.#runningNew += items;
  }

  /** Remembers that a lane had a response. Of the idle lanes, the one that was added first is forgotten. */
  #remember(lane: string): void {
    this.#responded.add(lane);
    if (this.#responded.size <= MAX_REMEMBERED) return;
    for (const name of this.#responded) if (!this.#lanes.has(name)) return void this.#responded.delete(name);
  }

  /** Whether another item of the lane can start now. */
  #hasRoom(lane: Lane): boolean {
    const { total } = this.#options;
    if (!this.hasResponded(lane.name) && this.#runningNew >= this.#newTotal) return false;
    return this.#running < (lane.running < NEW_LANE_ITEMS ? total : total - this.#reserved);
  }

  #startNext(): void {
    // Each lane that has no room now is passed over once.
    for (const lane of this.#turns) {
      if (this.#paused) break;
      if (!this.#hasRoom(lane)) {
        if (this.#running >= this.#options.total) break;
        continue;
      }
      const item = lane.waiting.takeFirst();
      if (item === undefined) continue;
      this.#takePlace(lane);
      // The lane goes to the end of the turns.
      this.#turns.delete(lane);
      this.#updateTurn(lane);
      item.start();
    }
    this.#scheduleCheck();
  }

  #scheduleCheck(): void {
    if (this.#lanes.size > 0) {
      this.#cancelCheck ??= this.#options.clock.after(CHECK_MS, () => this.#check());
    } else {
      this.#cancelCheck?.();
      this.#cancelCheck = undefined;
    }
  }

  #check(): void {
    this.#cancelCheck = undefined;
    for (const lane of this.#lanes.values()) {
      if (lane.uncounted || !this.#isUnresponsive(lane)) continue;
      this.#count(lane, -lane.running);
      this.#responded.delete(lane.name);
      lane.uncounted = true;
      this.#updateTurn(lane);
      this.#options.onUnresponsive?.(lane.name);
    }
    this.#startNext();
  }

  #tidy(lane: Lane): void {
    if (countOf(lane) === 0) this.#lanes.delete(lane.name);
  }
}

function countOf({ waiting, running, sharing }: Lane): number {
  return waiting.size + running + sharing;
}
