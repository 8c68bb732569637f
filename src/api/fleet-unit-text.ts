import type { UnitOption } from './fleet-transport.js';
import { unitFileText } from './unit-file.js';

/** What fleet does not take as it is written. */
export interface UnitTextProblem {
  /** From 1. */
  line: number;
  problem: string;
  /** Whether fleet cannot keep such a unit; otherwise it keeps it, changed. */
  isRefused: boolean;
}

export interface FleetUnitText {
  /** Those before the first problem that fleet refuses. */
  options: UnitOption[];
  problems: UnitTextProblem[];
}

/** fleet refuses such a line or not, by where in the file it is (go-systemd, SYSTEMD_LINE_MAX). In bytes. */
const LONG_LINE = 2_048;

/**
 * The options of a unit file as fleet 1.0.0 and its clients read it (go-systemd, unit/deserialize.go), so that the hash is theirs. systemd
 * reads the same text differently, see `unitFileOptions`: it joins a continued line with blanks, where fleet keeps the backslash and the
 * end of the line; and it skips what is no assignment, which fleet refuses.
 */
export function fleetUnitOptions(text: string): FleetUnitText {
  const lexer = new Lexer(text);
  lexer.read();
  const { options, problems } = lexer;
  if (!problems.some(({ isRefused }) => isRefused) && !isReadAsWritten(options))
    problems.push({
      line: lexer.line,
      problem: 'a value ends with a backslash, which fleet reads differently when it has written it',
      isRefused: true,
    });
  return { options, problems };
}

/** fleet keeps the text that it makes of the options, and reads that again. */
function isReadAsWritten(options: readonly UnitOption[]): boolean {
  const written = unitFileText(options);
  const lexer = new Lexer(written);
  lexer.read();
  return !lexer.problems.some(({ isRefused }) => isRefused) && unitFileText(lexer.options) === written;
}

class Lexer {
  readonly options: UnitOption[] = [];
  readonly problems: UnitTextProblem[] = [];
  readonly #text: string;
  #at = 0;
  /** The line that begins or goes on at `#at`. */
  line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  read(): void {
    this.#warnOfLongLines();
    if (!this.#skipToSection()) return;
    let section = this.#section();
    while (section !== undefined) {
      const next = this.#skipToSign();
      if (next === undefined) return;
      if (next === '[') {
        this.#at += 1;
        section = this.#section();
      } else if (!this.#option(section)) return;
    }
  }

  #warnOfLongLines(): void {
    let line = 0;
    for (const each of this.#text.split('\n')) {
      line += 1;
      // A character has at most three bytes for each unit of its length.
      if (each.length * 3 >= LONG_LINE && Buffer.byteLength(each) >= LONG_LINE)
        this.#note(
          line,
          `fleet may refuse a line of ${LONG_LINE} bytes or more: continue it on the next line`,
        );
    }
  }

  /** Before the first section fleet looks for the first bracket, wherever it is. */
  #skipToSection(): boolean {
    let isWarned = false;
    while (this.#at < this.#text.length) {
      const sign = this.#text.charAt(this.#at);
      if (sign === '#' || sign === ';') {
        this.#skipComment();
        continue;
      }
      this.#at += 1;
      if (sign === '[') return true;
      if (sign !== '\uFEFF' && !isSpace(sign) && !isWarned) {
        isWarned = true;
        this.#note(this.line, 'fleet leaves out what is before the first section');
      }
      if (sign === '\n') this.line += 1;
    }
    return false;
  }

  /** To the first sign that is neither a blank nor in a comment. */
  #skipToSign(): string | undefined {
    while (this.#at < this.#text.length) {
      const sign = this.#text.charAt(this.#at);
      if (sign === '#' || sign === ';') this.#skipComment();
      else if (!isSpace(sign)) return sign;
      else {
        this.#at += 1;
        if (sign === '\n') this.line += 1;
      }
    }
    return undefined;
  }

  #skipComment(): void {
    for (;;) {
      const { line } = this;
      const { content, isLast } = this.#restOfLine();
      const ended = content.endsWith(' ') ? content.slice(0, -1) : content;
      if (!ended.endsWith('\\') || isLast) return;
      this.#note(
        line + 1,
        'fleet takes this line for a part of the comment before it, which ends with a backslash',
      );
    }
  }

  #section(): string | undefined {
    const end = this.#text.indexOf(']', this.#at);
    const name = this.#text.slice(this.#at, Math.max(end, this.#at));
    if (end < 0 || name.includes('\n')) return this.#refuse('the name of a section has no end');
    this.#at = end + 1;
    const { line } = this;
    if (trimmed(this.#restOfLine().content) !== '')
      return this.#refuse('there is more after the name of a section', line);
    return name;
  }

  #option(section: string): boolean {
    const end = this.#text.indexOf('\n', this.#at);
    const rest = this.#text.slice(this.#at, end < 0 ? undefined : end);
    const equals = rest.indexOf('=');
    const name = trimmed(rest.slice(0, Math.max(equals, 0)));
    if (equals < 0 || rest.slice(0, equals).includes('\r')) {
      this.#refuse('neither a section nor NAME=VALUE');
      return false;
    }
    if (name === '') this.#note(this.line, 'the option has no name');
    this.#at += equals + 1;
    this.options.push({ section, name, value: this.#value() });
    return true;
  }

  #value(): string {
    const parts: string[] = [];
    for (;;) {
      const { line } = this;
      const { content, isLast } = this.#restOfLine();
      if (trimmed(content) === '') break;
      if (parts.length > 0 && /^\s*[#;]/.test(content))
        this.#note(line, 'fleet takes a comment within a continued line for a part of the value');
      parts.push(content);
      if (content.endsWith('\\\r'))
        this.#note(line, 'fleet does not continue a line that ends with a backslash and a carriage return');
      if (!content.endsWith('\\')) break;
      if (!isLast) parts.push('\n');
    }
    // An empty line ended what was to be continued.
    return `${trimmed(parts.join(''))}${parts.at(-1) === '\n' ? '\n' : ''}`;
  }

  #restOfLine(): { content: string; isLast: boolean } {
    const end = this.#text.indexOf('\n', this.#at);
    const isLast = end < 0;
    const content = this.#text.slice(this.#at, isLast ? undefined : end);
    this.#at = isLast ? this.#text.length : end + 1;
    if (!isLast) this.line += 1;
    // Only the last line loses it: elsewhere go-systemd looks for it behind the end of the line.
    return { content: isLast && content.endsWith('\r') ? content.slice(0, -1) : content, isLast };
  }

  #note(line: number, problem: string): void {
    this.problems.push({ line, problem, isRefused: false });
  }

  #refuse(problem: string, line = this.line): undefined {
    this.problems.push({ line, problem, isRefused: true });
  }
}

/** As Go's unicode.IsSpace: JavaScript's own has U+FEFF, and not U+0085. */
const isSpace = (sign: string): boolean => sign === '\u0085' || (sign !== '\uFEFF' && /\s/.test(sign));

/** As Go's strings.TrimSpace. */
function trimmed(text: string): string {
  let from = 0;
  let to = text.length;
  while (from < to && isSpace(text.charAt(from))) from += 1;
  while (to > from && isSpace(text.charAt(to - 1))) to -= 1;
  return text.slice(from, to);
}
