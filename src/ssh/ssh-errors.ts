import { ActionError } from '../api/action-error.js';
import { endOfText, oneLine } from '../lib/machine-text.js';

/** Why a host could not be reached, in `details.reason` of `host_unreachable`. */
export type UnreachableReason =
  | 'no_host'
  | 'dns'
  | 'refused'
  | 'no_route'
  | 'connect_timeout'
  | 'connect_failed'
  | 'handshake_timeout'
  | 'handshake_failed'
  | 'not_ready'
  | 'channel_refused'
  | 'connection_lost';

/** Why a host's key was refused, in `details.reason` of `host_key_refused`. */
export type HostKeyReason =
  | 'unknown'
  | 'only_certificate_authority'
  | 'changed'
  | 'revoked'
  | 'no_accepted_type'
  | 'no_known_hosts'
  | 'known_hosts_unusable';

const UNREACHABLE: Record<UnreachableReason, string> = {
  no_host: 'this is not an IP address or a host name',
  dns: 'its name cannot be resolved',
  refused: 'the connection was refused',
  no_route: 'there is no route to it',
  connect_timeout: 'it did not respond in time',
  connect_failed: 'the connection failed',
  handshake_timeout: 'its SSH server did not respond in time',
  handshake_failed: 'the SSH handshake failed',
  not_ready: 'it is starting up or shutting down',
  channel_refused: 'its SSH server accepts no further session',
  connection_lost: 'the connection was lost',
};

const KEY_REFUSED: Record<HostKeyReason, string> = {
  unknown: 'its host key is unknown',
  only_certificate_authority:
    'its host key is unknown; known_hosts has only @cert-authority lines for it, and host certificates are not supported',
  changed: 'its host key has changed',
  revoked: 'its host key is revoked',
  no_accepted_type: 'it has no host key of an accepted type',
  no_known_hosts:
    'the user of the service has no home folder for a known_hosts file: SSH_KNOWN_HOSTS must name one',
  known_hosts_unusable: 'the known_hosts file could not be read or written',
};

/** `host_unreachable`, details `{ host, reason }`. The original error is only in the cause, not in the message. */
export function hostUnreachable(host: string, reason: UnreachableReason, cause?: unknown): ActionError {
  const text =
    host === ''
      ? 'cannot reach a machine by SSH: it has no address'
      : `cannot reach ${host} by SSH: ${UNREACHABLE[reason]}`;
  return new ActionError('host_unreachable', text, {
    details: { host, reason },
    cause,
  });
}

/** The connection ended while a command ran: `host_unreachable`, reason `connection_lost`. */
export function connectionLost(host: string): ActionError {
  const message = `the connection to ${host} was lost while a command ran there; the result of the command is unknown`;
  return new ActionError('host_unreachable', message, { details: { host, reason: 'connection_lost' } });
}

/** `host_key_refused`, details `{ host, reason, ...facts }`. The facts are not secret: key types and fingerprints. */
export function hostKeyRefused(
  host: string,
  reason: HostKeyReason,
  facts: { keyType?: string; fingerprint?: string; knownKeyTypes?: string[] } = {},
  cause?: unknown,
): ActionError {
  return new ActionError('host_key_refused', `refused to connect to ${host}: ${KEY_REFUSED[reason]}`, {
    details: { host, reason, ...facts },
    cause,
  });
}

/**
 * Why a login was refused, in `details.reason` of `login_refused`. `closed`: the server closed the connection, as it does when it
 * accepts the key, and not the account.
 */
type LoginRefusal = 'no_accepted_key' | 'closed';

/**
 * `login_refused`, details `{ host, user, reason, text? }`.
 * @param said what the server said about it; nothing by default
 */
export function loginRefused(
  host: string,
  user: string,
  { reason, said = '' }: { reason: LoginRefusal; said?: string },
  cause?: unknown,
): ActionError {
  const text = endOfText(said).trim();
  const why = text !== '' ? `: ${oneLine(text)}` : reason === 'closed' ? ': it closed the connection' : '';
  return new ActionError('login_refused', `${host} refused the login of ${user}${why}`, {
    details: { host, user, reason, ...(text !== '' && { text }) },
    cause,
  });
}

/** The text of /run/nologin, in some versions in quotes, while systemd starts the machine up or shuts it down (pam_nologin(8)). */
const NOT_READY = /^"?System is (?:booting up|going down)\./m;

/**
 * The server has closed the connection instead of answering the login: `login_refused`; or `host_unreachable`, reason
 * `not_ready`, while the machine starts up or shuts down, since a later login may succeed.
 * @param said the last text that the server sent; may be empty
 */
export function loginEnded(host: string, user: string, said: string): ActionError {
  if (NOT_READY.test(said)) return hostUnreachable(host, 'not_ready');
  return loginRefused(host, user, { reason: 'closed', said });
}

/**
 * The time limit passed while the program waited for others that the service runs on the host: `timeout`, details `{ host }`. The
 * host itself is not said to be slow.
 */
export function noFreeChannel(host: string, program: string, cause: unknown): ActionError {
  const message = `${program} was not run on ${host} in time: earlier commands of other requests have not ended there; try again later`;
  return new ActionError('timeout', message, { details: { host }, cause });
}

/**
 * The error for an aborted signal: its reason if that is an `ActionError`, `timeout` for the reason of
 * `AbortSignal.timeout`, else `cancelled`.
 */
export function stopError(signal: AbortSignal): ActionError {
  const reason: unknown = signal.reason;
  if (reason instanceof ActionError) return reason;
  if (reason instanceof DOMException && reason.name === 'TimeoutError') {
    return new ActionError('timeout', 'the deadline passed', { cause: reason });
  }
  return new ActionError('cancelled', 'the work was cancelled', { cause: reason });
}
