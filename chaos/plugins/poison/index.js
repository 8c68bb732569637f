import { defineAction } from 'fleet-manager/plugin';
import { object, string } from 'yup';
import { writeEffect } from '../../support/write-effect.js';

const WAYS = {
  exit: () => process.exit(7),
  loop: () => {
    for (;;);
  },
  memory: () => {
    const held = [];
    for (;;) held.push(Array.from({ length: 100_000 }, () => ({})));
  },
};

export default defineAction({
  name: 'chaos_poison',
  summary: 'Ends, blocks or fills the process that runs it.',
  target: 'optional',
  effect: 'read',
  parameters: object({
    way: string().oneOf(Object.keys(WAYS)).required().meta({ description: 'How.' }),
  }),
  result: object({}),
  async handle({ parameters: { way }, id }) {
    writeEffect(id, 'begin');
    WAYS[way]();
    return {};
  },
});
