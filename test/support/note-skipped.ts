/**
 * Reports tests that cannot run here; with REQUIRE_SERVICES=1 that is a failure.
 * @param variable names the server that is missing
 */
export function noteSkipped(what: string, variable: string): undefined {
  if (process.env.REQUIRE_SERVICES === '1') throw new Error(`${variable} is not set, so ${what} cannot run`);
  process.stderr.write(`skipped: ${what} (${variable} is not set; see scripts/install-services)\n`);
  return undefined;
}

/**
 * Reports tests that this machine cannot run whatever is installed, such as those that need root rights. It is no failure,
 * not even with REQUIRE_SERVICES=1.
 * @param why a sentence without a full stop
 */
export function noteImpossible(what: string, why: string): void {
  process.stderr.write(`skipped: ${what} (${why})\n`);
}
