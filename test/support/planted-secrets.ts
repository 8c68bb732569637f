import { randomUUID } from 'node:crypto';

/** Each planted secret begins with this, and nothing else contains it. */
const MARK = 'Zqsecret';

/**
 * A secret of a test: a password, a token. The suite fails when one appears in what the service writes: log lines, the output of commands, error
 * replies, and whatever else is given to `refuseSecretsIn`.
 */
export function planted(what: string): string {
  return `${MARK}-${what}-${randomUUID()}`;
}

/** The mark as it is, in hexadecimal, and in Base64, where it looks different at each of three places. */
const FORMS: readonly (readonly [form: string, pattern: RegExp])[] = [
  ['as it is', new RegExp(MARK)],
  ['in hexadecimal', new RegExp(Buffer.from(MARK).toString('hex'), 'i')],
  ...[0, 1, 2].map((shift) => ['in Base64', new RegExp(inBase64(shift))] as const),
];

/** The part of the mark's Base64 that is the same whatever stands around it. */
function inBase64(shift: number): string {
  const text = Buffer.from(`${'x'.repeat(shift)}${MARK}`).toString('base64');
  return text.slice(shift === 0 ? 0 : 4, text.length - 4);
}

/** What of a text shows a planted secret; undefined: nothing does. */
export function secretIn(text: string): string | undefined {
  for (const [form, pattern] of FORMS) {
    const found = pattern.exec(text);
    if (found === null) continue;
    const around = text.slice(Math.max(0, found.index - 200), found.index + 200);
    return `a planted secret, ${form}: ...${around}...`;
  }
  return undefined;
}

/**
 * Makes the test file fail when a planted secret is in this output. Not by throwing here: what writes the output may catch it.
 * @param where for people
 */
export function refuseSecretsIn(text: string, where: string): void {
  const found = secretIn(text);
  // AVA reports an unhandled rejection as a failure.
  if (found !== undefined) void Promise.reject(new Error(`${where} has ${found}`));
}
