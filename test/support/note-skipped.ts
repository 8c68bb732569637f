/**
 * Reports tests that cannot run here; with REQUIRE_SERVICES=1 that is a failure.
 * @param variable names the server that is missing
 */
export function noteSkipped(what: string, variable: string): undefined {
  if (process.env.REQUIRE_SERVICES === '1') throw new Error(`${variable} is not set, so ${what} cannot run`);
  process.stderr.write(`skipped: ${what} (${variable} is not set; see scripts/install-services)\n`);
  return undefined;
}
