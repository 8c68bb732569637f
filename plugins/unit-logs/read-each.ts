/** The number of machines read at the same time. */
export const CONCURRENCY = 32;

/** Reads each machine, a limited number at the same time. The results are in the order of the ids; it never rejects. */
export async function readEach(
  ids: readonly string[],
  read: (id: string) => Promise<string>,
): Promise<PromiseSettledResult<string>[]> {
  const parts: PromiseSettledResult<string>[] = [];
  const remaining = ids.entries();
  const reader = async () => {
    for (const [index, id] of remaining) [parts[index]] = await Promise.allSettled([read(id)]);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, reader));
  return parts;
}
