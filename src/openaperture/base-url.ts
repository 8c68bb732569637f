/**
 * Reads the URL of a setting.
 * @param setting its name, for the message
 * @throws Error that does not quote the URL, since it may contain a password
 */
export function baseUrl(setting: string, text: string): URL {
  // fetch refuses such a URL too, but its error quotes the password. With a `/` in a password, its rest is read as the path.
  if (/^https?:.*@/.test(text))
    throw new Error(`${setting} must not contain a user name or password: access is by OAuth`);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw new Error(`${setting} must be an http:// or https:// URL`);
  return url;
}
