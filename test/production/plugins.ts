/** The source of a plugin that notes each run of its handler in a file, as `NAME ID`. */
function noted(
  notes: string,
  { name, target = 'none', effect, more = '', parameters = '', handle }: PluginSource,
): string {
  return `
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ActionError, defineAction, unitName } from 'fleet-manager/plugin';
import { array, object, string } from 'yup';
export default defineAction({
  name: '${name}', summary: 'For the tests.', target: '${target}', effect: '${effect}', ${more}
  parameters: object({ ${parameters} }),
  result: string().defined().meta({ description: 'Nothing.' }),
  handle: async ({ id, parameters, signal }) => {
    appendFileSync(${JSON.stringify(notes)}, \`${name} \${id}\\n\`);
    ${handle}
  },
});`;
}

interface PluginSource {
  name: string;
  target?: 'none' | 'cluster';
  effect: 'read' | 'change';
  more?: string;
  parameters?: string;
  handle: string;
}

const UNITS = `units: array().of(unitName().required()).required().meta({ description: 'The units.' })`;
const UNTIL_STOPPED = `await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));`;

/** The plugins of the load, by folder. @param notes the file in which their handlers note that they run */
export function loadPlugins(notes: string): Record<string, string> {
  const sources: PluginSource[] = [
    { name: 'look', effect: 'read', handle: `return 'seen';` },
    { name: 'peek', effect: 'read', more: 'coalesce: true,', handle: `await sleep(20); return 'seen';` },
    { name: 'slow', effect: 'read', handle: UNTIL_STOPPED },
    { name: 'slow_change', effect: 'change', handle: UNTIL_STOPPED },
    { name: 'set_units', target: 'cluster', effect: 'change', parameters: UNITS, handle: `return 'set';` },
    {
      name: 'fail',
      target: 'cluster',
      effect: 'change',
      parameters: UNITS,
      handle: `throw new ActionError('unit_failed', 'as told');`,
    },
    { name: 'break', effect: 'change', handle: `throw new Error('a defect');` },
    {
      name: 'rotate',
      effect: 'change',
      parameters: `
        password: string().meta({ description: 'Its name says that it is a secret.' }),
        pepper: string().meta({ secret: true, description: 'A secret.' })`,
      handle: `return 'rotated';`,
    },
  ];
  return Object.fromEntries(sources.map((source) => [source.name, noted(notes, source)]));
}

/** A plugin that ends its worker. */
export const CRASH = `
import { defineAction } from 'fleet-manager/plugin';
import { object, string } from 'yup';
export default defineAction({
  name: 'crash', summary: 'Ends the worker.', target: 'none', effect: 'read',
  parameters: object({
    how: string().required().meta({ description: 'How.' }),
    pepper: string().meta({ secret: true, description: 'A secret.' }),
  }),
  result: string().defined().meta({ description: 'Nothing.' }),
  handle: async ({ parameters: { how } }) => {
    if (how === 'exit') process.exit(0);
    if (how === 'block') for (;;);
    setTimeout(() => { throw new Error('nobody catches it'); });
    return new Promise(() => {});
  },
});`;
