/** The most characters that Erlang gives an atom. */
export const ATOM_CHARACTERS = 255;

/** Whether the text has half of a surrogate pair alone, and so no UTF-8 form. */
export function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}

/** Whether an atom can hold this many characters; Erlang counts code points, not UTF-16 units. */
export function fitsAtom(text: string): boolean {
  return text.length <= ATOM_CHARACTERS || Array.from(text).length <= ATOM_CHARACTERS;
}

function checkAtom(text: string): void {
  if (!fitsAtom(text)) throw new RangeError(`an atom has at most ${ATOM_CHARACTERS} characters`);
  if (hasLoneSurrogate(text)) throw new TypeError('an atom must be well-formed Unicode');
}

/** A value to be written as an atom; made by `atom`. As JSON it is its text. */
export class Atom {
  readonly text: string;

  constructor(text: string) {
    checkAtom(text);
    this.text = text;
  }

  toJSON(): string {
    return this.text;
  }
}

/** An object to be written as a map whose keys are atoms; made by `atomKeys`. As JSON it is the object. */
export class AtomKeys {
  readonly entries: Readonly<Record<string, unknown>>;

  constructor(entries: Readonly<Record<string, unknown>>) {
    for (const key of Object.keys(entries)) checkAtom(key);
    this.entries = entries;
  }

  toJSON(): Readonly<Record<string, unknown>> {
    return this.entries;
  }
}

/**
 * Says that `encode` and `encodeTerm` are to write this text as an atom. Erlang never frees an atom: give only words
 * of the program's own, never a caller's text. Throws `RangeError` on more than 255 characters, `TypeError` on half a
 * surrogate pair.
 */
export function atom(text: string): Atom {
  return new Atom(text);
}

/** Says that `encode` and `encodeTerm` are to write this object's own keys (not those deeper in) as atoms, under the rules of `atom`. */
export function atomKeys(entries: Readonly<Record<string, unknown>>): AtomKeys {
  return new AtomKeys(entries);
}
