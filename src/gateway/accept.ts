/** The quality of a media type that is as good as any other. */
const BEST = 1;
/** RFC 9110, 12.4.2. */
const QUALITY = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

/** A media range of the header `Accept`, such as `application/*;q=0.5`. */
interface MediaRange {
  /** In lower case, without parameters. */
  readonly name: string;
  readonly quality: number;
}

/**
 * Whether a caller prefers one media type to another (RFC 9110, 12.5.1). Of two that it accepts equally well it prefers `type` only when it
 * names that one, without a wildcard.
 * @param accept the header `Accept`; undefined: the caller accepts everything equally well
 */
export function prefers(accept: string | undefined, type: string, toOther: string): boolean {
  if (accept === undefined) return false;
  const ranges = mediaRangesOf(accept);
  const quality = qualityOf(type, ranges);
  const other = qualityOf(toOther, ranges);
  return quality > other || (quality > 0 && quality === other && ranges.some(({ name }) => name === type));
}

/** The quality that the most specific range gives a media type; 0: it is not accepted. */
function qualityOf(type: string, ranges: readonly MediaRange[]): number {
  const [main = ''] = type.split('/');
  for (const range of [type, `${main}/*`, '*/*']) {
    const found = ranges.filter(({ name }) => name === range);
    if (found.length > 0) return Math.max(...found.map(({ quality }) => quality));
  }
  return 0;
}

/** The media ranges of a header; those without a valid quality are left out. Parameters are ignored. */
function mediaRangesOf(accept: string): MediaRange[] {
  return separated(accept, ',').flatMap((element) => {
    const [name = '', ...parameters] = separated(element, ';').map((each) => each.trim().toLowerCase());
    const given = parameters.find((each) => each.startsWith('q='))?.slice('q='.length);
    if (given === undefined) return { name, quality: BEST };
    return QUALITY.test(given) ? { name, quality: Number(given) } : [];
  });
}

/** The parts between separators that are not within quotes. In one pass: a caller may send a header of many quotes. */
function separated(text: string, separator: string): string[] {
  const parts: string[] = [];
  let isQuoted = false;
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') isQuoted = !isQuoted;
    else if (character === '\\' && isQuoted) at++;
    else if (character === separator && !isQuoted) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  return [...parts, text.slice(from)];
}
