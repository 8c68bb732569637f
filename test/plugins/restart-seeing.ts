import { randomUUID } from 'node:crypto';
import restartUnit from '../../plugins/restart-unit/index.js';
import { Cluster } from '../../src/api/cluster.js';
import { unitFileHash } from '../../src/api/unit-file.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import {
  ActionError,
  Clock,
  FleetTransport,
  type Unit,
  type UnitOption,
  type UnitState,
  UnitControl,
} from '../../src/plugin.js';
import { actionRequest } from '../support/action-request.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { logLines } from '../support/log-lines.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { codeOf, UNIT, onlyFleet } from './restart-world.js';

export interface Scene {
  /** Since the restart began. */
  ms: number;
  /** Since `launched` was ordered last; -1 before that. */
  launchedMs: number;
  desiredState: string;
}

export interface Show {
  unit?: Partial<Unit>;
  /** systemd's active state; null: a row without it; undefined: no row. */
  active: string | null | undefined;
  /** systemd's substate; `any` by default. */
  sub?: string | null;
  hash?: string;
  /** The machine of the row; A by default. */
  on?: string;
  /** More rows after that one, as rows of machine A that say inactive. */
  others?: Partial<UnitState>[];
  /** The ids of the listed machines; A and B by default. */
  listed?: string[];
  /** Whether fleet cannot be asked. */
  fails?: boolean;
  /** Whether there is no such unit any more. */
  gone?: boolean;
  /** What each host that answers shows differently; one host by default. */
  hosts?: Partial<Unit>[];
}

export interface Circumstances {
  options?: UnitOption[];
  /** After fleet has carried out an order. What it throws is the answer. */
  order?: (count: number) => void;
  /** Before fleet carries out an order. What it throws is the answer, and it is not carried out. */
  refuse?: (state: string, ms: number) => void;
  /** The index of the host that gets an order; the first one by default. */
  host?: (state: string) => number;
  /** How long fleet takes to carry out an order, in milliseconds. */
  takes?: number;
  wait?: number;
  /** When the request ends, in milliseconds since the restart began. */
  abortAt?: number;
  repeated?: boolean;
  /** What fleet is known to lack. */
  missing?: () => string | undefined;
}

/** A restart on a fleet that shows what the test says: what a real one shows late, or of an earlier unit. */
export async function restartSeeing(
  show: (scene: Scene) => Show,
  {
    options = service('/bin/web'),
    order = () => {},
    refuse = () => {},
    host = () => 0,
    takes = 0,
    wait = 25,
    abortAt,
    repeated = false,
    missing = () => undefined,
  }: Circumstances = {},
) {
  const clock = new LeapingClock();
  const begin = clock.now();
  const passed = () => clock.now() - begin;
  /** Also those that fleet has refused. */
  const sent: { state: string; ms: number }[] = [];
  /** What was read, and from which host. */
  const reads: string[] = [];
  let desiredState = 'launched';
  let launchedAt: number | undefined;
  const shown = () => {
    const ms = passed();
    return show({ ms, desiredState, launchedMs: launchedAt === undefined ? -1 : ms - launchedAt });
  };
  const nameOf = (index: number) => `10.0.0.${index + 1}:7002`;
  const fleet: Pick<
    FleetTransport,
    'machines' | 'incompleteness' | 'unit' | 'unitStates' | 'setDesiredState'
  > = {
    machines: async (_cluster, { from }) => {
      reads.push(`machines of ${from}`);
      const { listed = [MACHINE_A, MACHINE_B] } = shown();
      return listed.map(
        (id) =>
          TWO_MACHINES.find((machine) => machine.id === id) ?? { id, primaryIP: '127.0.0.3', metadata: {} },
      );
    },
    incompleteness: async () => missing(),
    unit: async (_cluster, name, { accepts }) => {
      const { unit, gone, hosts = [{}] } = shown();
      const base = { name, options, desiredState, currentState: desiredState, machineID: MACHINE_A, ...unit };
      for (const [index, own] of hosts.entries()) {
        const seen = gone === true ? undefined : { ...base, ...own };
        if (accepts?.(seen, nameOf(index)) !== false) return seen;
      }
      throw new ActionError('cluster_answer_invalid', 'no host shows what is wanted');
    },
    unitStates: async (_cluster, { unitName, from }) => {
      reads.push(`states of ${unitName} from ${from}`);
      const {
        active,
        sub = 'any',
        hash = unitFileHash(options),
        on = MACHINE_A,
        others = [],
        fails,
      } = shown();
      if (fails === true) throw new ActionError('cluster_unhealthy', 'HTTP 503');
      const systemd = { systemdLoadState: 'loaded', systemdActiveState: 'inactive', systemdSubState: 'dead' };
      const row = { name: UNIT, hash, machineID: on, ...systemd };
      const own = active === undefined ? [] : [{ ...row, systemdActiveState: active, systemdSubState: sub }];
      return [...own, ...others.map((other) => ({ ...row, machineID: MACHINE_A, ...other }))];
    },
    setDesiredState: async (_cluster, _name, wanted, { confirmedBy }) => {
      sent.push({ state: wanted, ms: passed() });
      if (takes > 0) await clock.sleep(takes);
      refuse(wanted, passed());
      desiredState = wanted;
      if (wanted === 'launched') launchedAt = passed();
      order(sent.length);
      confirmedBy?.(nameOf(host(wanted)));
    },
  };
  const parts = new Map<symbol, unknown>([
    [FleetTransport, fleet],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  const warnings: string[] = [];
  const { log, find } = logLines();
  const abort = new AbortController();
  const end = () => abort.abort(new ActionError('timeout', 'the deadline is over'));
  if (abortAt === 0) end();
  else if (abortAt !== undefined) clock.after(abortAt, end);
  const request = actionRequest({
    parameters: action.check({ unit_name: UNIT, wait_seconds: wait }),
    cluster: new Cluster(randomUUID()),
    signal: abort.signal,
    repeated,
    log,
    warn: (warning) => warnings.push(warning),
  });
  const [code, text, details] = await action.run(request).then(
    (result) => ['done', String(result), undefined] as const,
    (error: unknown) =>
      [
        codeOf(error),
        error instanceof Error ? error.message : '',
        error instanceof ActionError ? error.details : undefined,
      ] as const,
  );
  const orders = sent.map(({ state }) => state);
  const launchedAtMs = sent.find(({ state }) => state === 'launched')?.ms ?? -1;
  return { code, text, details, warnings, orders, sent, launchedAtMs, reads, tookMs: passed(), find };
}

export const running = (desiredState: string) => (desiredState === 'launched' ? 'active' : 'inactive');
