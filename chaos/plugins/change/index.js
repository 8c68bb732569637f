import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { defineAction } from 'fleet-manager/plugin';
import { boolean, number, object, string } from 'yup';
import { writeEffect } from '../../support/write-effect.js';

export default defineAction({
  name: 'chaos_change',
  summary: 'A change whose effect is a line in the ledger.',
  target: 'optional',
  effect: 'change',
  parameters: object({
    hold_ms: number().integer().min(0).default(0).meta({ description: 'How long it takes.' }),
    stubborn: boolean().default(false).meta({ description: 'Whether it goes on when it must stop.' }),
  }),
  result: object({
    run: string().required().meta({ description: 'Another one for each run.' }),
  }),
  async handle({ parameters: { hold_ms: holdMs, stubborn }, id, signal }) {
    writeEffect(id, 'begin');
    await sleep(holdMs, undefined, stubborn ? {} : { signal });
    writeEffect(id, 'end');
    return { run: randomUUID() };
  },
});
