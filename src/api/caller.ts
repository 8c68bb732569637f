/** Who sent a request. */
export interface Caller {
  /** `anonymous` when nothing proves a name. */
  name: string;
  /**
   * What proves the name. `broker`: RabbitMQ has compared the message's `user_id` with the user of the connection
   * (https://www.rabbitmq.com/docs/validated-user-id; users with the tag `impersonator` are exempt).
   */
  verifiedBy: 'broker' | undefined;
}

export const ANONYMOUS: Caller = Object.freeze({ name: 'anonymous', verifiedBy: undefined });
