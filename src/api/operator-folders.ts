/**
 * Where an operator's unit files are (systemd.unit(5)), each before those that it overrides. Files of the distribution are in
 * `/usr/lib/systemd/system`.
 */
export const OPERATOR_FOLDERS = [
  '/etc/systemd/system',
  '/run/systemd/system',
  '/usr/local/lib/systemd/system',
] as const;
/** What generators write, such as those of Podman's quadlets. */
export const GENERATED = '/run/systemd/generator';
/** What `systemd-run` writes. */
export const TRANSIENT = '/run/systemd/transient';
