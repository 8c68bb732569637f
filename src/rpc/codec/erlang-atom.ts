/** The maximum length of an atom in Erlang. */
export const ATOM_CHARACTERS = 255;

/** Whether the text has an unpaired surrogate, and so no UTF-8 form. */
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

/** A value that is written as an atom; made by `atom`. In JSON it is a string. */
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

/** An object that is written as a map with atoms as keys; made by `atomKeys`. In JSON it is a plain object. */
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
 * Makes `encode` and `encodeTerm` write this text as an atom. Erlang never frees an atom: use it only for words of the
 * program, never for a caller's text. Throws `RangeError` for more than 255 characters, `TypeError` for an unpaired
 * surrogate.
 */
export function atom(text: string): Atom {
  return new Atom(text);
}

/** Makes `encode` and `encodeTerm` write this object's own keys (not nested ones) as atoms, under the rules of `atom`. */
export function atomKeys(entries: Readonly<Record<string, unknown>>): AtomKeys {
  return new AtomKeys(entries);
}
