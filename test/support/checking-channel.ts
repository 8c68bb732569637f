import { whenAborted } from '../../src/lib/when-aborted.js';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';

/** A reply channel that checks each request until the check is given up, or `accept` is called. */
export function checkingChannel(reaches: ReplyChannel['reaches'] = () => true) {
  let checks = 0;
  let accepted = false;
  const channel: ReplyChannel = {
    needsPlainReply: false,
    reaches,
    check: async (_request, signal) => {
      checks++;
      if (accepted) return {};
      await whenAborted(signal);
      throw signal.reason;
    },
    send: async () => 'sent',
  };
  return { channel, checks: () => checks, accept: () => (accepted = true) };
}
