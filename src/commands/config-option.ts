const OPTION = '--config';

/** The file that the option `--config` names, of any command, and the other arguments. A missing name is left to the command line. */
export function configOption(args: readonly string[]): {
  file: string | undefined;
  others: readonly string[];
} {
  let file: string | undefined;
  const others: string[] = [];
  const end = args.indexOf('--');
  const options = end < 0 ? args : args.slice(0, end);
  for (let at = 0; at < options.length; at++) {
    const each = options[at] ?? '';
    const next = options[at + 1];
    if (each.startsWith(`${OPTION}=`)) file = each.slice(OPTION.length + 1);
    else if (each === OPTION && next !== undefined) {
      file = next;
      at++;
    } else others.push(each);
  }
  return { file, others: end < 0 ? others : [...others, ...args.slice(end)] };
}
