/** Reads a `.cpuprofile` of V8, and sums its times by function. */
import type { Profiler } from 'node:inspector';

/** A function and what it called, with the time of the samples in it. */
export interface Frame {
  name: string;
  /** Such as `dist/src/core/runner.js:12`, `yup`, `node:net:12` or `native`. */
  place: string;
  selfMicros: number;
  totalMicros: number;
  callees: Frame[];
}

export interface FunctionTime {
  name: string;
  place: string;
  selfMicros: number;
  /** With all it called; a recursive function counts once. */
  totalMicros: number;
}

/** The call tree without the time in which the process waited. */
export function callTree({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Frame {
  const self = new Map<number, number>();
  samples.forEach((id, at) => self.set(id, (self.get(id) ?? 0) + (timeDeltas[at + 1] ?? 0)));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const frameOf = (node: Profiler.ProfileNode): Frame => {
    const children = (node.children ?? []).flatMap((id) => byId.get(id) ?? []);
    const callees = merged(
      children.filter((child) => child.callFrame.functionName !== '(idle)').map(frameOf),
    );
    const selfMicros = self.get(node.id) ?? 0;
    return {
      name: node.callFrame.functionName || '(anonymous)',
      place: placeOf(node.callFrame),
      selfMicros,
      totalMicros: callees.reduce((sum, { totalMicros }) => sum + totalMicros, selfMicros),
      callees,
    };
  };
  const [root] = nodes;
  if (root === undefined) throw new Error('the profile is empty');
  return frameOf(root);
}

export function functionTimes(root: Frame): FunctionTime[] {
  const times = new Map<string, FunctionTime>();
  const add = (frame: Frame, callers: ReadonlySet<string>) => {
    const { name, place, selfMicros, totalMicros } = frame;
    const key = `${name} ${place}`;
    const time = times.get(key) ?? { name, place, selfMicros: 0, totalMicros: 0 };
    times.set(key, time);
    time.selfMicros += selfMicros;
    if (!callers.has(key)) time.totalMicros += totalMicros;
    const inside = new Set([...callers, key]);
    for (const callee of frame.callees) add(callee, inside);
  };
  add(root, new Set());
  return [...times.values()];
}

/** V8 has several nodes for one function below one caller, such as before and after its optimisation. */
function merged(frames: readonly Frame[]): Frame[] {
  const groups = new Map<string, Frame>();
  for (const frame of frames) {
    const key = `${frame.name} ${frame.place}`;
    const same = groups.get(key);
    groups.set(
      key,
      same === undefined
        ? frame
        : {
            ...same,
            selfMicros: same.selfMicros + frame.selfMicros,
            totalMicros: same.totalMicros + frame.totalMicros,
            callees: merged([...same.callees, ...frame.callees]),
          },
    );
  }
  return [...groups.values()];
}

const ROOT = new URL('../', import.meta.url).href;

function placeOf({ url, lineNumber }: Profiler.ProfileNode['callFrame']): string {
  if (url === '') return 'native';
  const path = decodeURIComponent(url.startsWith('/') ? `file://${url}` : url).replace(ROOT, '');
  return `${path}:${lineNumber + 1}`;
}

/** Whose code it is: a folder of the service, a package, Node.js, or native code. */
export function ownerOf(place: string): string {
  const [, npmPackage] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(place) ?? [];
  if (npmPackage !== undefined) return npmPackage;
  if (place.startsWith('node:')) return 'Node.js';
  const [, room] = /^dist\/(src\/[^/:]+)/.exec(place) ?? [];
  return room ?? place.replace(/:\d+$/, '');
}
