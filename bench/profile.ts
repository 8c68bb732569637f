/**
 * Profiles the service under load by very small requests. Writes a CPU profile, for speedscope or the developer tools of
 * a browser, and a flame graph to `bench/profiles/`, and prints where the time goes.
 *
 * Usage: npm run bench:profile [-- --seconds S --in-flight N --erlang]
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { callTree, type FunctionTime, functionTimes, ownerOf } from './cpu-profile.js';
import { flameGraph } from './flame-graph.js';
import { erlangPings, jsonPings, PING_PLUGINS, pingCall, warmUp } from './ping.js';
import { table } from './report.js';
import { cpuSeconds, end } from './server-process.js';
import { brokerUrl, Caller, load, startService } from './support.js';

const PROFILES = new URL('profiles/', import.meta.url);
const QUEUE = 'bench_profile';
const WRITTEN_WITHIN_MS = 60_000;
const MOST_LINES = 40;

process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '6' },
    'in-flight': { type: 'string', default: '64' },
    erlang: { type: 'boolean', default: false },
  },
});

mkdirSync(PROFILES, { recursive: true });
const stem = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
const profileFile = new URL(`${stem}.cpuprofile`, PROFILES).pathname;
const flameGraphFile = new URL(`${stem}.svg`, PROFILES).pathname;

const { requests, processMicros } = await profile();
const tree = callTree(JSON.parse(readFileSync(profileFile, 'utf8')));
writeFileSync(flameGraphFile, flameGraph(tree, requests));
summarise();

/** @returns how many requests were served meanwhile, and the CPU time of the process */
async function profile(): Promise<{ requests: number; processMicros: number }> {
  const caller = await Caller.open(brokerUrl());
  const service = startService(QUEUE, brokerUrl(), {
    PLUGIN_PATHS: PING_PLUGINS,
    NODE_OPTIONS: `--import=${new URL('profiled.js', import.meta.url).pathname}`,
    PROFILE_FILE: profileFile,
  });
  try {
    await caller.declared(QUEUE);
    const inFlight = Number(values['in-flight']);
    const call = pingCall(caller, QUEUE, values.erlang ? erlangPings() : jsonPings());
    await warmUp(call, inFlight);
    service.kill('SIGUSR2');
    const cpuBefore = cpuSeconds(service);
    const latencies = await load(inFlight, Number(values.seconds), call);
    const cpuMicros = (cpuSeconds(service) - cpuBefore) * 1e6;
    service.kill('SIGUSR2');
    const latest = performance.now() + WRITTEN_WITHIN_MS;
    while (!existsSync(profileFile)) {
      if (performance.now() > latest) throw new Error('the service has written no profile');
      await setTimeout(100);
    }
    return { requests: latencies.length, processMicros: cpuMicros };
  } finally {
    await end(service);
    await caller.channel.deleteQueue(QUEUE);
    await caller.close();
  }
}

function summarise(): void {
  const times = functionTimes(tree);
  const owners = new Map<string, number>();
  for (const { place, selfMicros } of times)
    owners.set(ownerOf(place), (owners.get(ownerOf(place)) ?? 0) + selfMicros);
  const byOwner = [...owners].map(([name, selfMicros]) => ({ name, selfMicros }));
  const own = times.filter(({ place }) => place.startsWith('dist/src/'));
  print(
    `${requests} requests, for each ${(processMicros / requests).toFixed(1)} us CPU of the process, and ` +
      `${(tree.totalMicros / requests).toFixed(1)} us of the main thread`,
  );
  print(`\nby owner, in its own functions\n\n${lines(byOwner, 'selfMicros')}`);
  print(`\nby function, in itself\n\n${lines(times.map(withPlace), 'selfMicros')}`);
  print(`\nby function of the service, with what it calls\n\n${lines(own.map(withPlace), 'totalMicros')}`);
  print(`\n${profileFile}\n${flameGraphFile}`);
}

function withPlace(time: FunctionTime): FunctionTime {
  return { ...time, name: `${time.name} ${time.place}` };
}

/** The largest times of one kind. */
function lines<K extends 'selfMicros' | 'totalMicros'>(
  times: readonly ({ name: string } & Record<K, number>)[],
  kind: K,
): string {
  const largest = times.toSorted((a, b) => b[kind] - a[kind]).slice(0, MOST_LINES);
  return table({
    lines: largest.map(({ name, [kind]: micros }) => ({
      subject: name,
      figures: { 'us a request': micros / requests, '%': (micros / tree.totalMicros) * 100 },
    })),
  });
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
