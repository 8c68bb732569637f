/**
 * Acts when a promise has settled. As `finally`, but with one further promise instead of several, for what every request passes.
 * @returns the same promise
 */
export function afterwards<T>(promise: Promise<T>, act: () => void): Promise<T> {
  void promise.then(act, act);
  return promise;
}
