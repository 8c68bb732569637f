/** Names that contain one of these name a secret. */
const SECRET_PARTS = /passw|passphrase|secret|token|credential|(?:api|private|access|signing)key/;
/** Names that have one of these words name a secret: `ssh_key`, not `keyword`. */
const SECRET_WORDS: ReadonlySet<string> = new Set([
  'key',
  'keys',
  'pwd',
  'pin',
  'auth',
  'authorization',
  'cookie',
  'bearer',
]);
/** How much of a name is looked at. */
const MAX_NAME = 256;

/** Whether the name of a field says that its value is a secret. */
export function namesSecret(name: string): boolean {
  const words = name
    .slice(0, MAX_NAME)
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z0-9]+/);
  return SECRET_PARTS.test(words.join('')) || words.some((word) => SECRET_WORDS.has(word));
}
