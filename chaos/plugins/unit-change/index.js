import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { defineAction, unitName } from 'fleet-manager/plugin';
import { number, object, string } from 'yup';
import { writeEffect } from '../../support/write-effect.js';

export default defineAction({
  name: 'chaos_unit_change',
  summary: 'A change of a unit, whose effect is a line in the ledger, and which finds out what came of it.',
  target: 'optional',
  effect: 'change',
  parameters: object({
    unit: unitName().required().meta({ description: 'The unit.' }),
    hold_ms: number().integer().min(0).default(0).meta({ description: 'How long it takes.' }),
  }),
  result: object({
    run: string().required().meta({ description: 'Another one for each run.' }),
  }),
  async handle({ parameters: { hold_ms: holdMs, unit }, id, signal }) {
    writeEffect(id, 'begin', unit);
    let phase = 'stop';
    try {
      await sleep(holdMs, undefined, { signal });
      phase = 'end';
    } finally {
      writeEffect(id, phase, unit);
    }
    return { run: randomUUID() };
  },
  /** Finishes what an earlier run began. */
  async probe({ id }) {
    writeEffect(id, 'end');
    return { run: randomUUID() };
  },
});
