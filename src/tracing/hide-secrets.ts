/** Variables of OpenTelemetry that may hold a secret: tokens in headers, a password in a URL. */
const SECRET = /^OTEL_.*(HEADERS|ENDPOINT)$/;
/** Between the parts of the value of such a variable. */
const SEPARATORS = /[,;=\s]+/;
/** A shorter part is no secret, and would be found everywhere. */
const MIN_LENGTH = 4;

/** A text of OpenTelemetry without what such variables hold. */
export function hideSecrets(text: string, env: Readonly<NodeJS.ProcessEnv>): string {
  const secrets = Object.entries(env)
    .filter(([name]) => SECRET.test(name))
    .flatMap(([, value = '']) => [value, ...value.split(SEPARATORS)])
    .filter((part) => part.length >= MIN_LENGTH)
    .toSorted((a, b) => b.length - a.length);
  return secrets.reduce((hidden, secret) => hidden.replaceAll(secret, '***'), text);
}
