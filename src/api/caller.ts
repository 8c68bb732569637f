/** The sender of a request. */
export interface Caller {
  /** `anonymous` when no name has been verified. */
  name: string;
  /**
   * What has verified the name. `broker`: RabbitMQ has compared the message's `user_id` with the user of the connection
   * (https://www.rabbitmq.com/docs/validated-user-id; it does not check users with the tag `impersonator`).
   */
  verifiedBy: 'broker' | undefined;
}

export const ANONYMOUS: Caller = Object.freeze({ name: 'anonymous', verifiedBy: undefined });
