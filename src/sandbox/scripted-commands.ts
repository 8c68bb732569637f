/** What a simulated machine gets to run. */
export interface MachineCommand {
  /** The address that received it. */
  readonly host: string;
  /** The id of the machine. */
  readonly machine: string;
  /** The program and its arguments. */
  readonly argv: readonly string[];
  /** Whether it runs as root. */
  readonly sudo: boolean;
}

/** How a program of a simulated machine ends. */
export interface CommandAnswer {
  readonly stdout?: string;
  readonly stderr?: string;
  /** The exit status; 0 by default. */
  readonly status?: number;
  /** How long it runs before that, in milliseconds of the sandbox's clock; 0 by default. */
  readonly delayMs?: number;
  /** True: it writes `stdout` and `stderr` and goes on until its time limit is reached, or the caller stops it. */
  readonly hang?: boolean;
}

/** An answer, or what makes one of the command. */
export type CommandScript = CommandAnswer | ((command: MachineCommand) => CommandAnswer);

/** One word of a command: this text, a text that matches this pattern, or one that the function accepts. */
export type ArgumentMatcher = string | RegExp | ((argument: string) => boolean);

/** The words of a command, as many as it has; or a function that looks at all of them. */
export type CommandMatcher = readonly ArgumentMatcher[] | ((argv: readonly string[]) => boolean);

interface Rule {
  readonly matches: (command: MachineCommand) => boolean;
  /** What comes next; the last one stays. */
  readonly scripts: CommandScript[];
}

const FIELDS = Object.keys({
  stdout: true,
  stderr: true,
  status: true,
  delayMs: true,
  hang: true,
} satisfies Record<keyof CommandAnswer, true>);

/** The answers that a test has given simulated machines for commands. */
export class ScriptedCommands {
  /** The newest first. */
  readonly #rules: Rule[] = [];

  /**
   * @param host the address of the only machine; by default all
   * @returns a function that removes it
   * @throws TypeError when it could answer nothing
   */
  add(matcher: CommandMatcher, answer: CommandScript | readonly CommandScript[], host?: string): () => void {
    const scripts = isList(answer) ? [...answer] : [answer];
    if (scripts.length === 0) throw new TypeError('give at least one answer');
    for (const each of scripts) if (typeof each !== 'function') requireAnswer(each);
    const matchesWords = wordsMatcher(matcher);
    const rule: Rule = {
      matches: (command) => (host === undefined || host === command.host) && matchesWords(command.argv),
      scripts,
    };
    this.#rules.unshift(rule);
    return () => {
      const at = this.#rules.indexOf(rule);
      if (at >= 0) this.#rules.splice(at, 1);
    };
  }

  /** The next answer for this command; undefined when the test has given none. */
  next(command: MachineCommand): CommandAnswer | undefined {
    const scripts = this.#rules.find(({ matches }) => matches(command))?.scripts;
    const script = scripts !== undefined && scripts.length > 1 ? scripts.shift() : scripts?.[0];
    if (typeof script !== 'function') return script;
    try {
      const answer = script(command);
      requireAnswer(answer);
      return answer;
    } catch (error) {
      return { status: 1, stderr: `sandbox: the answer to ${command.argv[0]} failed: ${String(error)}\n` };
    }
  }
}

function isList(answer: CommandScript | readonly CommandScript[]): answer is readonly CommandScript[] {
  return Array.isArray(answer);
}

/** A test in JavaScript may give any value. */
function requireAnswer(answer: unknown): void {
  if (typeof answer !== 'object' || answer === null)
    throw new TypeError(
      `an answer is an object with ${FIELDS.join(', ')}, or a function that returns one, not ${String(answer)}`,
    );
  if ('then' in answer)
    throw new TypeError('an answer is not a promise: a function that returns one must not be async');
  const {
    stdout = '',
    stderr = '',
    status = 0,
    delayMs = 0,
    hang = false,
  } = answer as Record<string, unknown>;
  const wrong =
    typeof stdout !== 'string' || typeof stderr !== 'string'
      ? 'stdout and stderr are texts'
      : !(Number.isInteger(status) && Number(status) >= 0 && Number(status) <= 255)
        ? 'status is a whole number from 0 to 255'
        : !(typeof delayMs === 'number' && delayMs >= 0)
          ? 'delayMs is a number from 0'
          : typeof hang !== 'boolean'
            ? 'hang is true or false'
            : undefined;
  if (wrong !== undefined) throw new TypeError(`of an answer ${wrong}`);
  const unknown = Object.keys(answer).find((key) => !FIELDS.includes(key));
  if (unknown !== undefined)
    throw new TypeError(`an answer has no field '${unknown}': its fields are ${FIELDS.join(', ')}`);
}

function wordsMatcher(matcher: CommandMatcher): (argv: readonly string[]) => boolean {
  if (typeof matcher === 'function') return matcher;
  if (!Array.isArray(matcher))
    throw new TypeError(`a command is a list of words, such as ['docker', 'ps'], or a function`);
  if (matcher.length === 0) throw new TypeError('name the program: the first element of the array');
  const words = matcher.map(wordMatcher);
  return (argv) => argv.length === words.length && argv.every((word, at) => words[at]?.(word) === true);
}

function wordMatcher(matcher: ArgumentMatcher): (word: string) => boolean {
  if (typeof matcher === 'function') return matcher;
  return typeof matcher === 'string' ? (word) => word === matcher : (word) => word.search(matcher) >= 0;
}
