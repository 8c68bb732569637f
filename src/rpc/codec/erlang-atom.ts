/** Erlang's limit for the length of an atom, in characters. */
export const ATOM_CHARACTERS = 255;

/** Whether the text contains a lone surrogate, which UTF-8 cannot encode. */
export function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}

/** Whether the text is short enough for an atom; Erlang counts code points, not UTF-16 units. */
export function fitsAtom(text: string): boolean {
  return text.length <= ATOM_CHARACTERS || Array.from(text).length <= ATOM_CHARACTERS;
}

function checkAtom(text: string): void {
  if (!fitsAtom(text)) throw new RangeError(`an atom has at most ${ATOM_CHARACTERS} characters`);
  if (hasLoneSurrogate(text)) throw new TypeError('an atom must be well-formed Unicode');
}

/** A string that is encoded as an atom; made by `atom`. In JSON it is the string. */
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

/** An object that is encoded as a map with atom keys; made by `atomKeys`. In JSON it is the object. */
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
 * Makes `encode` and `encodeTerm` write this text as an atom. Erlang never frees an atom: use it only for fixed words
 * of the program, never for text from a caller.
 * @throws RangeError for more than 255 characters
 * @throws TypeError for a lone surrogate
 */
export function atom(text: string): Atom {
  return new Atom(text);
}

/**
 * Makes `encode` and `encodeTerm` write this object's own keys, not nested ones, as atoms. The rules of `atom` apply.
 */
export function atomKeys(entries: Readonly<Record<string, unknown>>): AtomKeys {
  return new AtomKeys(entries);
}
