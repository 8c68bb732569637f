import { printable } from '../lib/printable.js';
import { shownValue } from './describe-settings.js';
import type { Setting } from './setting.js';

type Named = Pick<Setting, 'name' | 'secret'>;

const MAX_SHOWN = 120;
const QUOTED = /^(["'`]).*\1$/s;
const URL_WITH_LOGIN = /:\/\/.*[@?]/s;
/** The value that Kubernetes gives the variable `NAME_PORT` in every pod beside a service `name`. */
const SERVICE_LINK = /^(?:tcp|udp|sctp):\/\//;

/** What is wrong with a value of a valid form; undefined: nothing. */
export function problemOfValue(
  raw: unknown,
  { name, secret, verbatim }: Pick<Setting, 'name' | 'secret' | 'verbatim'>,
): string | undefined {
  if (typeof raw !== 'string') return undefined;
  if (!verbatim && QUOTED.test(raw)) return `${name} must not have quotes around it`;
  // What uses it may quote it in an error. The URLs in the table have rules of their own.
  if (!secret && !name.endsWith('_URL') && URL_WITH_LOGIN.test(raw))
    return `${name} must not be a URL with a user name, a password or a query`;
  return undefined;
}

/**
 * The problems of a refused value, each with the value, unless it is a secret, and with its likely cause.
 * @param problems from the check of its form
 */
export function explained(problems: readonly string[], raw: unknown, setting: Named): string[] {
  const more = [shown(raw, setting), likelyCause(raw, setting)].filter((each) => each !== undefined);
  return problems.map((problem) => [problem, ...more].join('; '));
}

function shown(raw: unknown, setting: Named): string | undefined {
  if (setting.secret || raw === undefined) return undefined;
  const text = shownValue(raw, setting);
  return `it is ${printable(JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text))}`;
}

function likelyCause(raw: unknown, { name }: Pick<Setting, 'name'>): string | undefined {
  if (typeof raw !== 'string') return undefined;
  if (QUOTED.test(raw)) return 'remove the quotes around it, which `docker run --env-file` keeps';
  if (name.endsWith('_PORT') && SERVICE_LINK.test(raw))
    return `Kubernetes sets it for a service with the name ${name.slice(0, -'_PORT'.length).toLowerCase().replaceAll('_', '-')}: set enableServiceLinks: false in the pod, or set ${name} there`;
  return undefined;
}
