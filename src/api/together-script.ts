/** How much of the standard error of a program is told, in characters. */
const MAX_STDERR = 2_000;

/**
 * Runs programs at the same time, each with its own time limit, for `sh -c SCRIPT sh MARK SECONDS BYTES (NUMBER WORDS WORD...)...`: of each
 * program its number, how many words it has, and these. MARK is a word that nobody can guess.
 *
 * It prints `MARK b TIME\n`, then for each program, the last one first, `MARK o NUMBER\n`, its standard output, `MARK s`, the beginning of
 * its standard error, a newline and its exit status; and `MARK e TIME\n` (without these blanks). TIME is that of the machine, in seconds.
 * All that it prints of a program is cut to BYTES.
 *
 * Each program writes into a pipe of its own, which is read when its turn has come. So it needs no files, and one that hangs
 * holds up only the output of those before it. It starts few processes, as each takes a millisecond of the machine: three programs
 * for each that is there, none for one that is not.
 */
export const TOGETHER_SCRIPT = `mark=$1 seconds=$2 bytes=$3
shift 3
clock() { printf '%s%s%s\\n' "$mark" "$1" "$(date +%s.%N)"; }
one() {
  printf '%so%s\\n' "$mark" "$1"
  words=$2
  shift 2
  others=$(($# - words))
  while [ "$words" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    words=$((words - 1))
  done
  shift "$others"
  {
    timeout -k 1 "$seconds" "$@" </dev/null 2>&1 >&3 3>&-
    printf '\\n%s' "$?"
  } | {
    said=
    while IFS= read -r line; do
      [ "$((\${#said} + \${#line}))" -gt ${MAX_STDERR} ] || said="$said$line
"
    done
    printf '%ss%s%s' "$mark" "$said" "$line"
  }
}
all() {
  if [ "$#" -eq 0 ]; then return; fi
  if command -v "$3" >/dev/null; then
    one "$@" 3>&1 | {
      shift "$(($2 + 2))"
      all "$@"
      head -c "$bytes"
    }
  else
    printf '%so%s\\n%ss\\n127' "$mark" "$1" "$mark"
    shift "$(($2 + 2))"
    all "$@"
  fi
}
clock b
all "$@"
clock e
`;

/** A program with its arguments. */
export type Program = readonly [string, ...string[]];

/** What the script is given. */
export interface TogetherCommand {
  programs: readonly Program[];
  mark: string;
  /** The time limit of each program, in whole seconds. */
  seconds: number;
  /** The limit for all that is told of each, in bytes. */
  bytes: number;
}

/** The command that runs these programs. */
export function togetherArgv({ programs, mark, seconds, bytes }: TogetherCommand): [string, ...string[]] {
  // The script prints the last one first.
  const words = [...programs.entries()]
    .toReversed()
    .flatMap(([number, program]) => [String(number), String(program.length), ...program]);
  return ['sh', '-c', TOGETHER_SCRIPT, 'sh', mark, String(seconds), String(bytes), ...words];
}

/** Reads such a command; undefined for any other. */
export function readTogetherArgv(argv: readonly string[]): TogetherCommand | undefined {
  const [sh, c, script, name, mark = '', seconds, bytes, ...words] = argv;
  if (sh !== 'sh' || c !== '-c' || script !== TOGETHER_SCRIPT || name !== 'sh') return undefined;
  const programs: Program[] = [];
  while (words.length > 0) {
    const [, count] = words.splice(0, 2);
    const [program, ...args] = words.splice(0, Number(count));
    if (program === undefined) return undefined;
    programs.unshift([program, ...args]);
  }
  return { programs, mark, seconds: Number(seconds), bytes: Number(bytes) };
}

export interface ProgramSection {
  stdout: string;
  stderr: string;
  /** The exit status; undefined when the output was cut before it. */
  status: number | undefined;
}

/** A time of a machine's clock, in milliseconds since the epoch. */
export interface MachineTime {
  ms: number;
  /** How much later it may have been: some machines tell whole seconds. */
  precisionMs: number;
}

/** What the script printed, or the beginning of it. */
export interface TogetherOutput {
  /** By the number of the program: those that ended. */
  sections: Map<number, ProgramSection>;
  began: MachineTime | undefined;
  ended: MachineTime | undefined;
}

/** Reads what the script printed. What is not complete is left out. */
export function readTogether(text: string, mark: string): TogetherOutput {
  const sections = new Map<number, ProgramSection>();
  let [began, ended]: (MachineTime | undefined)[] = [];
  let output: { number: number; stdout: string } | undefined;
  const parts = text.split(mark).slice(1);
  for (const [at, part] of parts.entries()) {
    const [kind, rest] = [part[0], part.slice(1)];
    if ((kind === 'o' || kind === 'e') && output !== undefined)
      // It did not fit into the limit, as something else follows.
      sections.set(output.number, { stdout: output.stdout, stderr: '', status: undefined });
    if (kind === 'b') began = readTime(rest);
    else if (kind === 'e') ended = readTime(rest);
    else if (kind === 'o') {
      const [, number, stdout = ''] = /^(\d+)\n([^]*)$/.exec(rest) ?? [];
      output = number === undefined ? undefined : { number: Number(number), stdout };
    } else if (kind === 's' && output !== undefined && at + 1 < parts.length) {
      // The next mark shows that the status is complete.
      const end = rest.lastIndexOf('\n');
      const status = /^\d{1,3}$/.exec(rest.slice(end + 1));
      sections.set(output.number, {
        stdout: output.stdout,
        stderr: rest.slice(0, Math.max(0, end)),
        status: status === null ? undefined : Number(status[0]),
      });
      output = undefined;
    }
  }
  return { sections, began, ended };
}

/** Reads what `date +%s.%N` prints. busybox prints `%N` as it is. */
function readTime(text: string): MachineTime | undefined {
  // More digits are no time, and could make an endless number.
  const [, seconds, fraction] = /^(\d{1,12})(?:\.(\d{3})?\S*)?\n/.exec(text) ?? [];
  if (seconds === undefined) return undefined;
  return {
    ms: Number(seconds) * 1_000 + Number(fraction ?? 0),
    precisionMs: fraction === undefined ? 1_000 : 1,
  };
}
