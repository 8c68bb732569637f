import type { Command } from 'commander';
import { printable } from '../../lib/printable.js';
import type { ConfigurationSource } from '../../settings/given-settings.js';
import { isSandbox } from '../../settings/is-sandbox.js';
import { readConfiguration } from '../../settings/read-configuration.js';
import { configOption } from '../config-option.js';
import { print } from '../output.js';
import { candidates, FILES } from './candidates.js';

/** The cluster of every sandbox. */
const SANDBOX = 'sandbox';

/**
 * Prints what the last word could be, a line each, for the script of a shell. Whatever is wrong is not said: nobody would see it.
 * @param words those of the command line, without the name of the program
 */
export async function complete(
  program: Command,
  words: readonly string[],
  source: ConfigurationSource,
): Promise<number> {
  const { file } = configOption(words);
  const configuration = () => readConfiguration({ ...source, file });
  const found = await candidates(program, words, {
    actions: async () => {
      const { plugins, environment, watchdogSeconds } = configuration();
      const { describeActions } = await import('../../composition.js');
      return (await describeActions({ plugins, environment, watchdogSeconds })).describe();
    },
    clusters: async () => {
      const settings = configuration();
      if (isSandbox(settings)) return [SANDBOX];
      const { clustersFileOf } = await import('../../composition.js');
      // Without tokens, which are secrets.
      return [...clustersFileOf(settings.clusters).names.values()];
    },
  }).catch(() => []);
  print(found === FILES ? ':files\n' : found.map(({ value, about }) => `${lineOf(value, about)}\n`).join(''));
  return 0;
}

function lineOf(value: string, about: string | undefined): string {
  const text = about === undefined || about === '' ? '' : `\t${printable(about)}`;
  return `${printable(value)}${text}`;
}
