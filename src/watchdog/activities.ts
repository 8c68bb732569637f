import type { Activity } from '../core/plugin-watch.js';

/** An activity whose count other threads can read. */
export interface SharedActivity {
  kind: 'action' | 'loading';
  name: string;
  /** How often it runs now, in element 0. */
  count: Int32Array;
}

export function sharedActivity(kind: SharedActivity['kind'], name: string): SharedActivity & Activity {
  const count = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  return {
    kind,
    name,
    count,
    began: () => void Atomics.add(count, 0, 1),
    ended: () => void Atomics.sub(count, 0, 1),
  };
}

/** The fields for a log line: `actions` that run, with how often, and the plugin folders that are `loading`. */
export function runningFields(activities: Iterable<SharedActivity>): Record<string, unknown> {
  const actions: Record<string, number> = {};
  const loading: string[] = [];
  for (const { kind, name, count } of activities) {
    const running = Atomics.load(count, 0);
    if (running === 0) continue;
    if (kind === 'action') actions[name] = running;
    else loading.push(name);
  }
  return {
    ...(Object.keys(actions).length > 0 && { actions }),
    ...(loading.length > 0 && { loading: loading.join() }),
  };
}
