/** Who asks for something. */
export interface Caller {
  /** `anonymous` where nobody vouches for a name. */
  name: string;
  /**
   * Who vouches for the name. `broker`: RabbitMQ has compared the message's `user_id` with the user of the connection
   * (https://www.rabbitmq.com/docs/validated-user-id; users with the tag `impersonator` are exempt from that).
   */
  verifiedBy: 'broker' | undefined;
}

export const ANONYMOUS: Caller = Object.freeze({ name: 'anonymous', verifiedBy: undefined });
