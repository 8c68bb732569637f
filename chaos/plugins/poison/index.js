import { defineAction } from 'fleet-manager/plugin';
import { object, string } from 'yup';
import { writeEffect } from '../../support/write-effect.js';

const exit = () => process.exit(7);
const WAYS = {
  exit,
  loop: () => {
    for (;;);
  },
  memory: () => {
    const held = [];
    for (;;) held.push(Array.from({ length: 100_000 }, () => ({})));
  },
};
/** Already the check of the parameters ends the process. */
const CHECK = 'check';

export default defineAction({
  name: 'chaos_poison',
  summary: 'Ends, blocks or fills the process that runs it.',
  target: 'optional',
  effect: 'read',
  parameters: object({
    way: string()
      .oneOf([...Object.keys(WAYS), CHECK])
      .required()
      .test('poison', (way, { parent: { mark } }) => {
        if (way === CHECK) {
          writeEffect(mark, 'begin');
          exit();
        }
        return true;
      })
      .meta({ description: 'How.', format: 'way' }),
    mark: string()
      .required()
      .meta({ description: 'Stands in the ledger for the request: a check gets no id.' }),
  }),
  result: object({}),
  async handle({ parameters: { way, mark } }) {
    writeEffect(mark, 'begin');
    WAYS[way]();
    return {};
  },
});
