import { setTimeout as delay } from 'node:timers/promises';
import { FleetApis } from '../fleet-apis.js';
import { type MemoryUse, msOf, ProbedService } from '../probed-service.js';
import type { BenchOptions, Goal, Measurement, Row } from '../row.js';
import { median } from '../support.js';

const PAGE_MS = 100;
const SIZES = [100, 1_000, 5_000, 20_000] as const;
/** Lists of more units are measured once: a walk of them takes the same time in each round. */
const MANY_UNITS = 1_000;
const LOCKED_UNITS = 5_000;
const LOCKED_PAGE_MS = 300;
/** `list_unit_states` compares shorter lists with the units. */
const COMPARED = 1_000;
const REST_MS = 500;
/** For three pages. */
const AFTER_END_MS = 3 * LOCKED_PAGE_MS + 100;

const LISTS = { list_units: 'units', list_unit_states: 'state' } as const;
type Action = keyof typeof LISTS;

interface Cluster {
  name: string;
  units: number;
  /** What a page costs, for people. */
  page: string;
  rounds: number;
}

export const row: Row = {
  name: 'lists',
  title: `Lists of a fleet API, against a walk of the same lists one page after the other (${PAGE_MS} ms a page; ${LOCKED_PAGE_MS} ms under one lock)`,

  async measure({ brokerUrl, rounds }: BenchOptions): Promise<Measurement> {
    const clusters: Cluster[] = [
      ...SIZES.map((units) => ({
        name: `c${units}`,
        units,
        page: '',
        rounds: units > MANY_UNITS ? 1 : rounds,
      })),
      { name: 'locked', units: LOCKED_UNITS, page: ', one page at a time', rounds: 1 },
    ];
    const quick = SIZES.map((units) => ({ name: `quick${units}`, units }));
    const apis = await FleetApis.start([
      ...SIZES.map((units) => ({ name: `c${units}`, units, pageMs: PAGE_MS })),
      { name: 'locked', units: LOCKED_UNITS, lockedMs: LOCKED_PAGE_MS },
      ...quick,
    ]);
    try {
      const measured: Measurement[] = [];
      const service = await ProbedService.start(brokerUrl, apis.settings);
      try {
        for (const action of ['list_units', 'list_unit_states'] as const)
          for (const cluster of clusters) measured.push(await timeOf(service, apis, action, cluster));
      } finally {
        await service.stop();
      }
      for (const action of ['list_units', 'list_unit_states'] as const)
        measured.push(await memoryOf(brokerUrl, apis, action, rounds));
      return {
        lines: measured.flatMap(({ lines }) => lines),
        goals: measured.flatMap(({ goals }) => goals),
      };
    } finally {
      await apis.stop();
    }
  },
};

/** The time of an action through the queue, and of a walk of all that the action reads so that its list is whole. */
async function timeOf(
  service: ProbedService,
  apis: FleetApis,
  action: Action,
  { name, units, page, rounds }: Cluster,
): Promise<Measurement> {
  const read = async () => service.request({ action, etcd_token: name });
  // As in a service that runs for a while. The server still reads what this has asked for after the end of the list.
  await read();
  await delay(AFTER_END_MS);
  const actions: number[] = [];
  const walks: number[] = [];
  const plainWalks: number[] = [];
  const calls: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const before = await apis.calls(name);
    actions.push(await msOf(read));
    calls.push((await apis.calls(name)) - before);
    const plain = await msOf(async () => apis.walk(name, LISTS[action]));
    plainWalks.push(plain);
    const others = await msOf(async () => {
      await apis.walk(name, 'machines');
      if (action === 'list_unit_states' && units < COMPARED) await apis.walk(name, 'units');
    });
    walks.push(plain + others);
  }
  const speed = median(walks) / median(actions);
  const subject = `${action}, ${units} units${page}`;
  const figures = {
    'action ms': median(actions),
    'walk ms': median(walks),
    'times faster': speed,
    'without the machines and compared units': median(plainWalks) / median(actions),
    calls: median(calls),
  };
  const goal: Goal = {
    what: `${subject}, times faster than the walk`,
    measured: speed,
    bound: 'at least',
    limit: page === '' ? 2 : 1,
  };
  return { lines: [{ subject, figures }], goals: [goal] };
}

/** The memory that a list of most units takes in a service that has read small ones only. */
async function memoryOf(
  brokerUrl: string,
  apis: FleetApis,
  action: Action,
  rounds: number,
): Promise<Measurement> {
  const units = SIZES[3];
  const idles: MemoryUse[] = [];
  const peaks: MemoryUse[] = [];
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    const service = await ProbedService.start(brokerUrl, apis.settings);
    try {
      for (let times = 0; times < 20; times++)
        await service.request({ action, etcd_token: `quick${SIZES[0]}` });
      await delay(REST_MS);
      idles.push(await service.memory());
      peaks.push(
        await service.peakMemoryDuring(async () => {
          bytes = (await service.request({ action, etcd_token: `quick${units}` })).length;
          await delay(REST_MS);
        }),
      );
    } finally {
      await service.stop();
    }
  }
  const times = (pick: (use: MemoryUse) => number) =>
    (median(peaks.map(pick)) - median(idles.map(pick))) / bytes;
  const subject = `memory of ${action}, ${units} units`;
  const figures = {
    'answer MB': bytes / 1e6,
    'idle MB': median(idles.map(({ resident }) => resident)) / 1e6,
    'peak MB': median(peaks.map(({ resident }) => resident)) / 1e6,
    'resident over idle / answer': times(({ resident }) => resident),
    'heap and external over idle / answer': times(({ heapAndExternal }) => heapAndExternal),
  };
  const goal: Goal = {
    what: `${subject}: resident over idle, times the answer`,
    measured: figures['resident over idle / answer'],
    limit: 4,
  };
  return { lines: [{ subject, figures }], goals: [goal] };
}
