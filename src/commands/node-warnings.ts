/**
 * Takes the warnings of Node.js, which it would write to standard error as text, and keeps them until there is a log for
 * them.
 */
export class NodeWarnings {
  readonly #kept: Error[] = [];
  #report: (warning: Error) => void = (warning) => this.#kept.push(warning);

  constructor() {
    // Also removes the listener that writes them.
    process.removeAllListeners('warning');
    process.on('warning', (warning) => this.#report(warning));
  }

  /** Reports the warnings so far, and each one from now on. */
  reportTo(report: (warning: Error) => void): void {
    this.#report = report;
    for (const warning of this.#kept.splice(0)) report(warning);
  }
}
