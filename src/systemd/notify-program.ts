import { execFile } from 'node:child_process';

/** Sends assignments, such as `READY=1`, to systemd in one message. Rejects when it was not sent. */
export type Send = (assignments: readonly string[]) => Promise<void>;

/** Longer than the program waits for systemd (5 s in systemd 252), in milliseconds. */
const LIMIT_MS = 10_000;

/**
 * Sends with the program `systemd-notify`, as Node.js has no datagram sockets of Unix. It ends when systemd has read the
 * message (since systemd 246): the sender of a message is found by its process. The unit needs `NotifyAccess=all`.
 * @param socket the value of `NOTIFY_SOCKET`
 * @param path where the program is looked for: the value of `PATH`
 */
export function notifyProgram(socket: string, path: string | undefined): Send {
  // The program needs no secrets.
  const env = { NOTIFY_SOCKET: socket, ...(path !== undefined && { PATH: path }) };
  const options = { env, timeout: LIMIT_MS, killSignal: 'SIGKILL' } as const;
  return async (assignments) =>
    new Promise((resolve, reject) => {
      execFile('systemd-notify', [...assignments], options, (error, _stdout, stderr) => {
        if (error === null) resolve();
        else reject(new Error(problemOf(error, stderr), { cause: error }));
      });
    });
}

function problemOf(error: Error & { killed?: boolean }, stderr: string): string {
  if (error.killed === true) return `systemd-notify did not end within ${LIMIT_MS} ms`;
  return stderr.trim() || error.message;
}
