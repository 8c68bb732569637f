/** Invalid settings. The message lists every problem, one per line. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration is invalid:\n${problems.map((each) => `  - ${each}`).join('\n')}`);
    this.problems = problems;
  }
}
