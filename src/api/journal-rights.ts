/** What journalctl writes to stderr when the user may not read some of the journal, with exit status 0 or 1. */
const NO_PERMISSION =
  /^(?:Hint: You are currently not seeing messages from |No journal files were opened due to insufficient permissions)/m;

/** Whether journalctl says that its user may not read some of the journal, or all of it: without this, no line looks like a quiet unit. */
export function mayNotReadJournal(stderr: string): boolean {
  return NO_PERMISSION.test(stderr);
}

/**
 * Says what an operator can do about it.
 * @param part what of the journal may not be read, such as `some of `; all of it by default
 */
export function journalRightsMissing(host: string, part = ''): string {
  return `the login user may not read ${part}the journal of ${host}: add the user to the group systemd-journal there, which takes effect within 30 s, or set SSH_SUDO=true`;
}
