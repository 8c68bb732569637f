import { randomUUID } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import { type Entry, Ledger, type Planned, type PolicyName } from './ledger.js';
import { TOKENS } from './load.js';
import { amqpSender, httpSender, newTrace, type Send } from './senders.js';
import { HTTP_TOKENS, type Logins, type RunningWorker, type World } from './world.js';

/** Sends parts of a load, each request at the same time, and writes down what comes back. */
export async function openSenders(
  t: ExecutionContext,
  { logins, world, workers }: { logins: Logins; world: World; workers: readonly RunningWorker[] },
): Promise<{ ledger: Ledger; send: (requests: readonly Planned[], ...by: PolicyName[]) => Promise<void> }> {
  const senders = new Map<string, Send>();
  for (const [name, user] of logins.callers) {
    const isNamed = name !== 'legacy';
    const sender = await amqpSender(t, {
      broker: user,
      queue: world.queue,
      userId: isNamed ? name : undefined,
    });
    senders.set(`amqp ${isNamed ? name : 'anonymous'}`, sender);
  }
  const urls = workers.map(({ http }) => http);
  for (const name of TOKENS) senders.set(`http ${name}`, httpSender(urls, HTTP_TOKENS[name]));
  senders.set('http anonymous', httpSender(urls, undefined));
  const ledger = new Ledger();
  const sendOne = async (planned: Planned, policies: readonly PolicyName[]) => {
    const sender = senders.get(`${planned.door} ${planned.caller.name}`);
    if (sender === undefined) throw new Error(`nobody sends as ${planned.caller.name}`);
    // Every second one is in a trace of its caller.
    const isTraced = ledger.entries.length % 2 === 0 && planned.reach !== 'gateway';
    const entry: Entry = {
      ...planned,
      id: randomUUID(),
      trace: isTraced ? newTrace() : undefined,
      policies,
      got: 'nothing',
    };
    ledger.entries.push(entry);
    entry.got = await sender(entry);
    const possible = policies.flatMap((policy) => planned.outcomes[policy]);
    t.true(possible.includes(entry.got), `${describe(entry)} got ${entry.got}, not ${possible.join(' or ')}`);
  };
  return {
    ledger,
    send: async (requests, ...by) => {
      await Promise.all(requests.map(async (planned) => sendOne(planned, by)));
    },
  };
}

/** A request for people. */
function describe({ caller, door, encoding, action, units = [], policies }: Entry): string {
  return `${String(action)} ${units.join(' ')} of ${caller.name} over ${door} as ${encoding}, under ${policies.join(' or ')},`;
}
