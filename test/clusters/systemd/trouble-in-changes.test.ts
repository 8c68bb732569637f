import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { ActionError } from '../../../src/api/action-error.js';
import type { RemoteShell } from '../../../src/api/remote-shell.js';
import type { ChangeRequest, UnitChange } from '../../../src/api/unit-control.js';
import { SystemdUnitControl } from '../../../src/clusters/systemd/systemd-unit-control.js';
import { type Clock, systemClock } from '../../../src/lib/clock.js';
import { fieldsOf } from '../../../src/lib/fields-of.js';
import { actionRequest } from '../../support/action-request.js';
import { eventually, HUNG_MS } from '../../support/eventually.js';
import { ManualClock } from '../../support/manual-clock.js';
import { machinePool, machinesCanRun, type SystemdMachine } from '../../support/systemd-machines.js';
import {
  type Change,
  CHANGES,
  closeGate,
  COUNTED,
  delayRepeatedOrders,
  effectsOn,
  openGate,
  prepareUnits,
  textOf,
  unitOf,
  untilAllAtGate,
} from './counted-changes.js';
import { clusterOf } from './machines-as-clusters.js';

/** How long after its deadline a change may be answered, in milliseconds: a client waits for its reply for so long. */
const LATE_MS = 2_000;

/** What happens to a machine while all changes are in the middle. */
interface Trouble {
  prepare?: (machine: SystemdMachine) => Promise<void>;
  strike?: (machine: SystemdMachine) => Promise<unknown>;
  /** The machine answers after it. */
  end: (machine: SystemdMachine) => Promise<unknown>;
  /** What may be told of a change then, as far as it can be known. */
  cameTo: (did: string) => readonly string[];
}

type TroubleName = 'killed' | 'frozen' | 'cut off' | 'rebooted' | 'logged out' | 'ordered again at the end';

const TROUBLES: Readonly<Record<TroubleName, Trouble>> = {
  killed: {
    strike: async (machine) => machine.control('kill'),
    end: async (machine) => machine.control('boot'),
    cameTo: () => ['outcome_unknown'],
  },
  frozen: {
    strike: async (machine) => machine.control('freeze'),
    end: async (machine) => {
      await machine.control('thaw');
      await openGate(machine);
    },
    cameTo: (did) => [did],
  },
  'cut off': {
    strike: async (machine) => machine.control('cut'),
    end: async (machine) => {
      await machine.control('join');
      // There is no route to it until its address is asked for again.
      await eventually('it answers', async () => machine.run('echo yes').catch(() => undefined));
      await openGate(machine);
    },
    cameTo: (did) => [did],
  },
  rebooted: {
    strike: async (machine) => machine.reboot(),
    end: async () => undefined,
    // systemd cancels its jobs when it shuts down, and opens the gate: a change may come to its end before the machine does.
    cameTo: (did) => ['outcome_unknown', 'unit_changed_meanwhile', did],
  },
  'logged out': {
    strike: async (machine) => machine.run('pkill -KILL -u core sshd'),
    end: openGate,
    cameTo: (did) => [did],
  },
  'ordered again at the end': {
    prepare: delayRepeatedOrders,
    end: openGate,
    cameTo: (did) => [did],
  },
};

interface Round {
  /** One for each machine, at once. */
  troubles: readonly TroubleName[];
  /** The deadline of the first delivery passes before the machines are back. */
  isLate: boolean;
}

const ROUNDS: readonly Round[] = [
  { troubles: ['killed', 'frozen', 'cut off'], isLate: true },
  { troubles: ['rebooted', 'logged out', 'ordered again at the end'], isLate: false },
];

if (await machinesCanRun('troubles of systemd machines in the middle of changes')) {
  const { booted } = machinePool(test, 3);

  /** For each change, by machine: what was done, or the code of the error. */
  type Told = (change: Change, machine: SystemdMachine) => string;

  /** Workers enough for all changes at once: each makes four changes at a time on a machine. */
  const startWorkers = async (t: ExecutionContext, clock: Clock = systemClock) => {
    const { machines } = booted();
    let sent = 0;
    let onAllSent = () => {};
    const allSent = new Promise<void>((resolve) => (onAllSent = resolve));
    const newWorker = async () => {
      const { shell, cluster } = await clusterOf(t, booted(), machines, { sudo: true });
      const watched: RemoteShell = {
        run: async (host, argv, options) => {
          if (options.effect === 'change' && ++sent === CHANGES.length * machines.length) onAllSent();
          return shell.run(host, argv, options);
        },
      };
      const machinesOf = () => machines.map(({ address: host }) => ({ host, metadata: {} }));
      return { cluster, control: new SystemdUnitControl({ shell: watched, clock, machinesOf }) };
    };
    const workers = await Promise.all(
      CHANGES.map(async (_, index) => (index % 2 === 0 ? newWorker() : undefined)),
    );
    return {
      /** Each change is sent to each machine, or about to be. */
      allSent,
      /** Makes all changes at once, each on all machines. */
      changeAll: async (key: string, given: Partial<ChangeRequest> = {}): Promise<Told> => {
        const outcomes = new Map(
          await Promise.all(
            CHANGES.map(async (change, index) => {
              const worker = workers[index] ?? workers[index - 1];
              if (worker === undefined) throw new Error('start more workers');
              const request = {
                ...actionRequest({ cluster: worker.cluster }),
                deadline: clock.now() + HUNG_MS,
                key: `${key} ${change}`,
                ...given,
              };
              return [change, await outcomeOf(make(worker.control, request, change))] as const;
            }),
          ),
        );
        return (change, { machine }) => outcomes.get(change)?.(machine.id) ?? 'nothing';
      },
    };
  };

  const make = async (control: SystemdUnitControl, request: ChangeRequest, change: Change) => {
    const unit = unitOf(change);
    const on = { machines: booted().machines.map(({ machine }) => machine.id) };
    if (change === 'destroy') return control.destroy(request, { unit, ...on });
    if (change !== 'put') return control.change(request, { unit, verb: change, settleMs: 0, ...on });
    const files = [{ unit, text: `${textOf(change)}# new\n` }];
    return control.put(request, { files, activate: 'restart', settleMs: 0, ...on });
  };

  const outcomeOf = async (
    making: Promise<UnitChange[]>,
  ): Promise<(machine: string) => string | undefined> => {
    const byMachine = (changes: readonly UnitChange[]) => {
      const told = new Map(changes.map(({ machine_id, did, error }) => [machine_id, error?.code ?? did]));
      return (machine: string) => told.get(machine);
    };
    try {
      return byMachine(await making);
    } catch (error) {
      if (!(error instanceof ActionError)) throw error;
      const { changes } = fieldsOf(error.details);
      return Array.isArray(changes) ? byMachine(changes) : () => error.code;
    }
  };

  /** What is not as it must be: each request has one effect, and all its deliveries are told what came of it, or that it is not known. */
  const faultsIn = async (t: ExecutionContext, { troubles, isLate }: Round): Promise<string[]> => {
    const places = booted().machines.flatMap((machine, index) => {
      const name = troubles[index];
      return name === undefined ? [] : { machine, name, trouble: TROUBLES[name] };
    });
    const onEach = async <T>(work: (machine: SystemdMachine, trouble: Trouble) => Promise<T>) =>
      Promise.all(places.map(async ({ machine, trouble }) => work(machine, trouble)));
    const clock = isLate ? new ManualClock() : systemClock;
    const [one, other, third] = [await startWorkers(t, clock), await startWorkers(t), await startWorkers(t)];
    await onEach(async (machine, { prepare }) => {
      await prepareUnits(machine);
      await closeGate(machine);
      await prepare?.(machine);
    });
    const key = randomUUID();
    const caller = new AbortController();
    const delivery = one.changeAll(key, { signal: caller.signal });
    // A copy of a request comes after its first delivery.
    await one.allSent;
    const copy = other.changeAll(key, { repeated: true });
    const tooEarly = async (told: Promise<Told>) => {
      await told;
      throw new Error('a change has ended before the trouble');
    };
    await Promise.race([onEach(untilAllAtGate), tooEarly(delivery), tooEarly(copy)]);
    await onEach(async (machine, { strike }) => strike?.(machine));
    if (clock instanceof ManualClock) {
      clock.advance(HUNG_MS);
      caller.abort(new ActionError('timeout', 'the deadline passed'));
      clock.advance(LATE_MS);
      await delivery;
    }
    await onEach(async (machine, { end }) => end(machine));
    const [toDelivery, toCopy] = [await delivery, await copy];
    const effects = await onEach(effectsOn);
    const toThird = await third.changeAll(key, { repeated: true });
    const effectsThen = await onEach(effectsOn);
    await onEach(prepareUnits);
    const toNew = await third.changeAll(randomUUID());
    const effectsOfNew = await onEach(effectsOn);
    return places.flatMap(({ machine, name, trouble }, index) =>
      CHANGES.flatMap((change) => {
        const { did, effects: counted } = COUNTED[change];
        const once = counted.join(' ');
        const told = toCopy(change, machine);
        const rows: [what: string, is: string | undefined, must: readonly string[]][] = [
          ['its first delivery', toDelivery(change, machine), isLate ? ['outcome_unknown'] : [told]],
          ['its copy', told, trouble.cameTo(did)],
          ['its effects', effects[index]?.(change), [once]],
          ['a later delivery', toThird(change, machine), [told]],
          ['its effects after that', effectsThen[index]?.(change), [once]],
          ['a new request', toNew(change, machine), [did]],
          ['the effects of that', effectsOfNew[index]?.(change), [once]],
        ];
        return rows.flatMap(([what, is = 'nothing', must]) =>
          must.includes(is) ? [] : `${change}, ${name}: ${what}: '${is}' is not '${must.join("' or '")}'`,
        );
      }),
    );
  };

  for (const round of ROUNDS)
    test.serial(
      `each change has one effect, and two workers tell the same of it, on machines that are ${round.troubles.join(', ')} in the middle of it`,
      async (t) => {
        t.deepEqual(await faultsIn(t, round), []);
      },
    );
}
