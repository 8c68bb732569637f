import { string } from 'yup';
import { ActionError } from '../../src/plugin.js';
import { stderrOf } from './failed-command.js';

const UNITS = 'us|ms|s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?|months?|y|years?';
const SPAN = `\\d{1,5} ?(${UNITS})( ?\\d{1,5} ?(${UNITS})){0,3}`;
const CLOCK = '([01]\\d|2[0-3]):[0-5]\\d(:[0-5]\\d)?';
/** journalctl refuses dates before 1970, and dates whose microseconds do not fit into 64 bits. */
const YEAR = '(19[7-9]\\d|2[01]\\d\\d)';
const LEAP_YEAR = '(19([79][26]|8[048])|20([02468][048]|[13579][26])|21(0[48]|[2468][048]|[13579][26]))';
const DAY =
  '((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
/** Only days that exist: journalctl would take 30 February for the first or second of March. */
const DATE = `(${YEAR}-${DAY}|${LEAP_YEAR}-02-29)`;
/** The times that journalctl accepts (systemd.time(7)). No other text of a caller is passed to it. */
const JOURNAL_TIME = new RegExp(
  [
    `${DATE}( ${CLOCK})?( UTC)?`,
    CLOCK,
    'now|today|yesterday|tomorrow',
    '@\\d{1,10}',
    `[-+]${SPAN}`,
    `${SPAN} ago`,
  ]
    .map((form) => `^(${form})$`)
    .join('|'),
);

/** A time in one of the formats that journalctl accepts. */
export const journalTime = () =>
  string()
    .max(64)
    .matches(
      JOURNAL_TIME,
      '${path} is not a time such as 2024-05-01 10:00, yesterday, -2h, 30 min ago or @1714500000',
    );

const BOUNDS = ['since', 'until'] as const;

/**
 * The error for times in a valid format that journalctl refuses: `99999y ago` is before 1970, and `since` may be after
 * `until`, which depends on the machine's clock. Undefined for any other failure.
 */
export function refusedTime(
  failure: unknown,
  times: { since?: string; until?: string },
): ActionError | undefined {
  if (!(failure instanceof ActionError) || failure.code !== 'command_failed') return undefined;
  const said = stderrOf(failure);
  const unread = /^Failed to parse timestamp: (.*)$/m.exec(said)?.[1];
  const wrong = BOUNDS.filter(
    (name) =>
      times[name] !== undefined &&
      (unread === times[name] || said.includes('--since= must be before --until=')),
  );
  if (wrong.length === 0) return undefined;
  const message =
    unread === undefined ? 'since is not before until' : `${unread} is not a time that journalctl accepts`;
  return new ActionError('invalid_parameters', message, {
    details: { fields: wrong.map((name) => ({ field: `action_parameters.${name}`, message })) },
    cause: failure,
  });
}
