import { memoryToDecode } from '../lib/decoded-memory.js';

/** The gateway's part of the memory budget. */
const GATEWAY_SHARE = 0.25;

export interface MemoryShares {
  /** For the requests of the queue, in bytes. */
  queue: number;
  /** For the calls of the gateway, in bytes. They wait for requests of the queue, so these must not wait for them. */
  gateway: number;
}

/** Divides `MEMORY_BUDGET_BYTES`. */
export function memoryShares(budgetBytes: number, { hasGateway }: { hasGateway: boolean }): MemoryShares {
  const gateway = hasGateway ? Math.floor(budgetBytes * GATEWAY_SHARE) : 0;
  return { queue: budgetBytes - gateway, gateway };
}

/** The smallest budget with room to decode a request of this size, in bytes. */
export function leastMemoryBudget(maxMessageBytes: number, { hasGateway }: { hasGateway: boolean }): number {
  const needed = maxMessageBytes + memoryToDecode(maxMessageBytes);
  return Math.ceil(needed / (hasGateway ? 1 - GATEWAY_SHARE : 1));
}
