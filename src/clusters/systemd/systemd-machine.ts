/** A machine of a cluster of plain systemd hosts, as the operator lists it. */
export interface SystemdMachine {
  /** An IP address or a host name. */
  readonly host: string;
  readonly metadata: Readonly<Record<string, string>>;
}
