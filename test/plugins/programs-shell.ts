import { readTogetherArgv } from '../../src/api/together-script.js';
import type { RemoteOutput, RemoteShell } from '../../src/plugin.js';
import { togetherAnswer } from '../../src/sandbox/together-command.js';

/**
 * A shell that runs each program by this function, also those that run together.
 * @param now the time of the machines, in milliseconds since the epoch
 */
export function programsShell(run: RemoteShell['run'], now = 0): RemoteShell {
  return {
    run: async (host, argv, options) => {
      const together = readTogetherArgv(argv);
      if (together === undefined) return run(host, argv, options);
      const { programs, bytes } = together;
      const outputs = await Promise.all(programs.map(async (program) => run(host, program, options)));
      const { stdout = '' } = togetherAnswer(
        together,
        outputs.map((output) => answerOf(output, bytes)),
        now,
      );
      return { stdout, stderr: '', truncated: false };
    },
  };
}

function answerOf({ stdout, stderr, truncated, failure }: RemoteOutput, bytes: number) {
  const { exitStatus = 1 } = (failure?.details ?? {}) as { exitStatus?: number };
  return {
    stdout: truncated ? stdout.padEnd(bytes) : stdout,
    stderr,
    status: failure === undefined ? 0 : exitStatus,
  };
}
