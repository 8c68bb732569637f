/** The names of the warnings that Node emits during an action. */
export async function warningsDuring(work: () => Promise<unknown>): Promise<string[]> {
  const warnings: string[] = [];
  const heard = (warning: Error) => warnings.push(warning.name);
  process.on('warning', heard);
  await work();
  // It is emitted in the next turn.
  await new Promise(setImmediate);
  process.off('warning', heard);
  return warnings;
}
