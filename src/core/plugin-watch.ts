/** Code of a plugin that may run, any number of times at once. `ended` belongs to an earlier `began`. */
export interface Activity {
  began(): void;
  ended(): void;
}

/** Is told which code of plugins runs, to name it when it blocks the event loop or ends the process. */
export interface PluginWatch {
  /** The loading of a plugin. */
  loading(folder: string): Activity;
  /** An action: its handler, the check of its parameters and its clean-up. */
  action(name: string): Activity;
}
