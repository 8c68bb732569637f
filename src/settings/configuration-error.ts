import type { PluginConfiguration } from './settings.js';

/** Invalid settings. The message lists every problem, one per line. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly problems: readonly string[];

  /** @param plugins the settings that select the actions; undefined: they have problems themselves */
  constructor(
    problems: readonly string[],
    readonly plugins?: PluginConfiguration,
  ) {
    super(`the configuration is invalid:\n${problems.map((each) => `  - ${each}`).join('\n')}`);
    this.problems = problems;
  }
}
