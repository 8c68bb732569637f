import type { Socket } from 'node:net';
import type { BrokerConnection } from './broker-connection.js';

/** RabbitMQ sends at least one frame in half a heartbeat interval. */
const SILENT_HALVES = 3;

/**
 * Treats a connection as lost after 1.5 to 2 heartbeat intervals in which the broker sent nothing; amqplib itself waits for up
 * to 3. It counts checks, each in a turn of the event loop of its own, and not time: a process that was blocked or stopped
 * reads what has arrived before it counts again.
 * @param heartbeat the negotiated interval in seconds; 0: none
 */
export function watchHeartbeats(socket: Socket, heartbeat: number, connection: BrokerConnection): void {
  if (heartbeat === 0 || connection.lost.aborted) return;
  let read = socket.bytesRead;
  let silent = 0;
  const check = () => {
    silent = socket.bytesRead === read ? silent + 1 : 0;
    read = socket.bytesRead;
    if (silent === SILENT_HALVES)
      connection.lose(new Error(`the broker sent nothing, not even a heartbeat, for ${heartbeat * 1.5} s`));
  };
  // Not the injected clock: the broker sends its heartbeats in real time.
  const timer = setInterval(check, heartbeat * 500);
  connection.lost.addEventListener('abort', () => clearInterval(timer));
}
