/** The sender of a request. */
export interface Caller {
  /** `anonymous` when nobody has verified a name. */
  name: string;
  /**
   * Who has verified the name; undefined: nobody.
   * - `broker`: RabbitMQ has compared the message's `user_id` with the user of the connection
   *   (https://www.rabbitmq.com/docs/validated-user-id; it does not check users with the tag `impersonator`).
   * - `token`: the HTTP gateway has found the caller's token.
   * - `manager`: the open record in OpenAperture's Manager is that of the request; the name is `manager`.
   * - `service`: a program with the service's own user on the broker says so.
   */
  verifiedBy: Voucher | undefined;
}

export type Voucher = 'broker' | 'token' | 'manager' | 'service';

export const ANONYMOUS: Caller = Object.freeze({ name: 'anonymous', verifiedBy: undefined });

/** Who asks when the Manager has the record of a request. */
export const MANAGER: Caller = Object.freeze({ name: 'manager', verifiedBy: 'manager' });
