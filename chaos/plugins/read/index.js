import { setTimeout as sleep } from 'node:timers/promises';
import { defineAction } from 'fleet-manager/plugin';
import { number, object, string } from 'yup';

export default defineAction({
  name: 'chaos_read',
  summary: 'A read that takes as long, and replies with as much, as its caller wants.',
  target: 'optional',
  effect: 'read',
  parameters: object({
    hold_ms: number().integer().min(0).default(0).meta({ description: 'How long it takes.' }),
    bytes: number().integer().min(0).default(0).meta({ description: 'How much it replies with.' }),
  }),
  result: object({ text: string().defined().meta({ description: 'As many bytes as asked for.' }) }),
  async handle({ parameters: { hold_ms: holdMs, bytes }, signal }) {
    await sleep(holdMs, undefined, { signal });
    return { text: 'x'.repeat(bytes) };
  },
});
