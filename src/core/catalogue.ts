import type { Clock } from '../lib/clock.js';
import { settledWithin } from '../lib/settled-within.js';
import type { ActionDescription } from './action-description.js';
import type { LoadedSettings, UndeclaredVariable } from './plugin-settings.js';
import type { PreparedAction } from './prepare-action.js';

/** The actions that this service serves, by name. */
export class Catalogue {
  /** The npm packages whose actions were loaded, with their versions, such as `@acme/fleet-actions@1.2.0`. */
  readonly packages: readonly string[];
  /** The settings of all loaded actions. */
  readonly settings: LoadedSettings;
  /** Variables that look like a setting of a served action, and are none. */
  readonly undeclared: readonly UndeclaredVariable[];
  readonly #actions: ReadonlyMap<string, PreparedAction>;

  constructor(
    actions: readonly PreparedAction[],
    {
      packages = [],
      settings = { served: new Map(), others: new Map(), isComplete: true },
      undeclared = [],
    }: Partial<Pick<Catalogue, 'packages' | 'settings' | 'undeclared'>> = {},
  ) {
    this.packages = packages;
    this.settings = settings;
    this.undeclared = undeclared;
    this.#actions = new Map(actions.map((each) => [each.description.name, each]));
  }

  find(name: string): PreparedAction | undefined {
    return this.#actions.get(name);
  }

  /** All actions, by name in alphabetical order. */
  describe(): ActionDescription[] {
    return [...this.#actions.values()]
      .map(({ description }) => description)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The names of the actions that inject the dependency with this token, in alphabetical order. */
  injecting(token: symbol): string[] {
    return this.describe()
      .map(({ name }) => name)
      .filter((name) => this.#actions.get(name)?.injects.has(token));
  }

  /**
   * Disposes all actions at the same time.
   * @param withinMs how long each may take, in milliseconds
   * @throws AggregateError that names the actions that failed or took longer
   */
  async dispose(withinMs: number, clock: Clock): Promise<void> {
    const failures: Error[] = [];
    const cleanUp = async ({ description: { name }, dispose }: PreparedAction) => {
      const work = (async () => dispose())().catch((cause: unknown) => {
        failures.push(new Error(`the action ${name} failed to clean up`, { cause }));
      });
      if (!(await settledWithin(withinMs, clock, work)))
        failures.push(new Error(`the action ${name} has not cleaned up within ${withinMs} ms`));
    };
    await Promise.all([...this.#actions.values()].map(cleanUp));
    if (failures.length > 0) throw new AggregateError(failures, 'actions failed to clean up');
  }
}
