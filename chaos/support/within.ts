/** The value, or `otherwise` when it does not come within this many milliseconds. */
export async function within<T, U>(ms: number, value: Promise<T>, otherwise: U): Promise<T | U> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<U>((resolve) => {
    timer = setTimeout(() => resolve(otherwise), ms);
  });
  return Promise.race([value, late]).finally(() => clearTimeout(timer));
}
