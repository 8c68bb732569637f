import { ActionError } from '../../src/plugin.js';

/** Values that a defective plugin can throw, and that throw themselves when they are read. */
export function hostileValues(): [what: string, value: unknown][] {
  const throwing = <T extends object>(target: T, key: string): T => {
    const error = new Error(`${key} was read`);
    return Object.defineProperty(target, key, {
      get() {
        throw error;
      },
    });
  };
  const poison = new Error('poison');
  Object.defineProperty(poison, 'stack', {
    get() {
      throw poison;
    },
  });
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const unreadable = new Proxy(() => {}, {
    get: () => {
      throw poison;
    },
    getPrototypeOf: () => {
      throw poison;
    },
  });
  const known = () => new ActionError('known', 'so');
  return [
    ['nothing', undefined],
    ['a value without a prototype', Object.create(null)],
    ['a symbol', Symbol('s')],
    ['a revoked proxy', revoked.proxy],
    ['a function that throws when anything of it is read', unreadable],
    ['an error that throws itself from its stack', poison],
    ['an error without a message', throwing(new Error('m'), 'message')],
    ['an ActionError with a code that throws', throwing(known(), 'code')],
    ['an ActionError with a code that is a number', Object.assign(known(), { code: 5 })],
    ['an ActionError with a message that is not a string', Object.assign(known(), { message: {} })],
    ['an ActionError with details that throw', throwing(known(), 'details')],
  ];
}
