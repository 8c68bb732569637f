/** The host of a URL: a name or an address. URLs have IPv6 addresses in brackets. */
export function hostOf({ hostname }: { hostname: string }): string {
  return hostname.replace(/[[\]]/g, '');
}
