/** The working directory of the process; `/` when it has been deleted. */
export function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}
