/** A range of keys, both ends included. */
export interface KeyRange {
  /** The empty string: from the beginning of the list. */
  from: string;
  /** undefined: to the end of the list. */
  to: string | undefined;
}

/** Keys between two ranges, both ends excluded. */
export interface KeyGap {
  after: string;
  /** undefined: the end of the list. */
  before: string | undefined;
}

/** The ranges of keys in which all rows of a sorted list are known. */
export class KeyCoverage {
  /** In order, without common keys. */
  #ranges: KeyRange[] = [];

  add(range: KeyRange): void {
    const joined = { ...range };
    const others: KeyRange[] = [];
    for (const each of this.#ranges) {
      // Ranges without a common key are not joined: an unknown row may be between them.
      if (isBefore(each, joined) || isBefore(joined, each)) {
        others.push(each);
        continue;
      }
      if (each.from < joined.from) joined.from = each.from;
      if (each.to === undefined || (joined.to !== undefined && each.to > joined.to)) joined.to = each.to;
    }
    this.#ranges = [...others, joined].toSorted((a, b) => (a.from < b.from ? -1 : 1));
  }

  /** In order; empty when every row of the list is known. */
  gaps(): KeyGap[] {
    const gaps: KeyGap[] = [];
    let after: string | undefined = '';
    for (const { from, to } of this.#ranges) {
      if (after !== undefined && after < from) gaps.push({ after, before: from });
      after = to;
    }
    return after === undefined ? gaps : [...gaps, { after, before: undefined }];
  }
}

function isBefore(a: KeyRange, b: KeyRange): boolean {
  return a.to !== undefined && a.to < b.from;
}
