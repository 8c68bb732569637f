import type { ExecutionContext } from 'ava';
import type { UnitOption } from '../../src/plugin.js';
import { type Sandbox, type SandboxOptions, startSandbox } from '../../src/sandbox/sandbox.js';
import { ManualClock } from './manual-clock.js';

export interface OpenSandbox {
  sandbox: Sandbox;
  clock: ManualClock;
  /** Calls the first cluster's fleet API; the path begins after `/fleet/v1`. */
  fleet: (path: string, init?: RequestInit) => Promise<FleetAnswer>;
  /** PUTs a unit as a careful client does. */
  put: (name: string, unit: object) => Promise<FleetAnswer>;
}

export interface FleetAnswer {
  status: number;
  /** Parsed; undefined when there is none. */
  body: unknown;
}

/** A sandbox with a manual clock, stopped when the test ends. */
export async function openSandbox(t: ExecutionContext, options: SandboxOptions = {}): Promise<OpenSandbox> {
  const clock = new ManualClock();
  const sandbox = await startSandbox({ clock, ...options });
  t.teardown(() => sandbox.stop());
  const host = options.fleetHosts?.[0] ?? '127.0.0.1';
  const fleet = (path: string, init?: RequestInit) =>
    ask(`http://${host}:${sandbox.fleetPort}/fleet/v1${path}`, init);
  const put = (name: string, unit: object) =>
    fleet(`/units/${encodeURIComponent(name)}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name, ...unit }),
    });
  return { sandbox, clock, fleet, put };
}

export async function ask(url: string, init?: RequestInit): Promise<FleetAnswer> {
  const response = await fetch(url, { redirect: 'manual', ...init });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}

export const MACHINE_A = 'a'.repeat(32);
export const MACHINE_B = 'b'.repeat(32);
export const TWO_MACHINES = [
  { id: MACHINE_A, primaryIP: '127.0.0.1', metadata: { role: 'web', region: 'north' } },
  { id: MACHINE_B, primaryIP: '127.0.0.2', metadata: { role: 'data', region: 'north' } },
];

/** Options of a service unit, with these lines in its section `[X-Fleet]`. */
export function service(command: string, fleet: Record<string, string> = {}): UnitOption[] {
  return [
    { section: 'Service', name: 'ExecStart', value: command },
    ...Object.entries(fleet).map(([name, value]) => ({ section: 'X-Fleet', name, value })),
  ];
}
