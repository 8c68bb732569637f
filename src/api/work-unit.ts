/** Whether a unit is one in which this service has work done on a machine of systemd. */
export function isWorkUnit(name: string): boolean {
  return /^fm-[0-9a-f]{40}\.service$/.test(name);
}
