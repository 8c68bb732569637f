import type { UnitChange, UnitVerb } from '../../api/unit-control.js';
import type { WorkResult } from './machine-requests.js';
import { DENIED, endOf } from './work-end.js';
import { conditionOf, propertiesIn, type UnitProperties } from './unit-properties.js';

/** What came of a verb on one machine. */
export type VerbOutcome = Pick<UnitChange, 'did' | 'before' | 'after' | 'took_ms' | 'error'>;

type Verb = Exclude<UnitVerb, 'load' | 'unload'>;

interface Evidence {
  unit: string;
  verb: Verb;
  status: number;
  output: string;
  log: string;
  before: UnitProperties;
  /** Immediately after the verb. */
  after: UnitProperties;
  /** Some seconds later, where that was asked for. */
  later: UnitProperties | undefined;
}

type Judgement = { did: string } | { did?: string; code: string; message: string };

/** The judgement of what `VERB_WORK` has written: the exit status alone proves nothing. */
export function verbOutcome(unit: string, verb: Verb, result: WorkResult): VerbOutcome {
  const [before, after, later] = [result.before, result.after, result.later].map(propertiesIn);
  const now = later ?? after;
  const seen = {
    before: before === undefined ? null : conditionOf(before),
    after: now === undefined ? null : conditionOf(now),
    took_ms: result.tookMs,
  };
  const judged = judgementOf(unit, verb, result, { before, after, later });
  const { did = 'nothing' } = judged;
  return {
    ...seen,
    did,
    error: 'code' in judged ? { code: judged.code, message: judged.message } : null,
  };
}

function judgementOf(
  unit: string,
  verb: Verb,
  result: WorkResult,
  { before, after, later }: Record<'before' | 'after' | 'later', UnitProperties | undefined>,
): Judgement {
  const end = endOf(unit, result);
  if ('code' in end) return end;
  if (before === undefined || after === undefined)
    return failed(
      'outcome_unknown',
      `It is not known what came of the change of ${unit}: the machine could not keep what systemd said of it`,
    );
  const seen = { ...result, ...end, unit, verb, before, after, later };
  return refusal(seen) ?? JUDGES[verb](seen);
}

/** What systemctl says, in English, of what it did not do (systemd 219 to 252). */
function refusal({ unit, verb, status, output, before }: Evidence): Judgement | undefined {
  const load = before.get('LoadState');
  const isDown = isOneOf(before, DOWN);
  if (status === 0) return undefined;
  if (load === 'not-found' && isDown) return failed('unit_not_found', `The machine has no unit ${unit}`);
  // Nothing is to be done, and systemctl says that it knows no such unit.
  if (verb === 'stop' && status === 5 && isDown) return { did: 'nothing' };
  if (verb === 'reset-failed' && /not loaded/.test(output)) return { did: 'nothing' };
  if (DENIED.test(output))
    return failed('not_permitted', `The login of the service may not change ${unit}: ${output}`);
  if (/Read-only file system|No space left on device/.test(output))
    return failed('command_failed', `${unit} was not changed: ${output}`);
  if (load === 'masked') return failed('unit_masked', `${unit} is masked: unmask it to change it`);
  if (load === 'bad-setting' || load === 'error')
    return failed('unit_file_invalid', `The file of ${unit} cannot be used: ${output}`);
  if (/canceled|is destructive/.test(output))
    return failed('unit_changed_meanwhile', `Somebody else changed ${unit} at the same time: ${output}`);
  if (/dependency job/.test(output))
    return failed(
      'unit_dependency_failed',
      `${unit} was not started, because a unit that it needs failed: ${output}`,
    );
  if (/Assertion failed/.test(output))
    return failed('unit_condition_failed', `${unit} was not started: ${output}`);
  return undefined;
}

const JUDGES: Readonly<Record<Verb, (seen: Evidence) => Judgement>> = {
  start: started,
  restart: started,
  stop: stopped,
  reload: reloaded,
  enable: enabled,
  disable: disabled,
  'reset-failed': ({ unit, status, output, before, after }) => {
    if (status !== 0) return failed('command_failed', `${unit} was not reset: ${output}`);
    if (!isOneOf(before, ['failed'])) return { did: 'nothing' };
    return isOneOf(after, ['failed'])
      ? failed('unit_failed', `${unit} has failed again since it was reset`)
      : { did: 'reset' };
  },
};

function started({ unit, verb, status, output, log, before, after, later }: Evidence): Judgement {
  const now = later ?? after;
  const wasUp = isOneOf(before, UP);
  const did = verb === 'restart' && wasUp ? 'restarted' : 'started';
  if (status !== 0) {
    const isLate = after.get('Result') === 'timeout' || /timeout was exceeded/.test(output);
    return isLate
      ? failed('unit_not_started', `${unit} was not up within the time that its file allows: ${output}`, did)
      : failed('unit_failed', `${unit} failed when it was started${resultOf(now)}: ${output}`, did);
  }
  const isFlapping =
    now.get('SubState')?.startsWith('auto-restart') === true || restartsOf(now) > restartsOf(after);
  if (isFlapping)
    return failed('unit_flaps', `${unit} does not keep running: systemd starts it again and again`, did);
  if (isOneOf(now, ['failed']))
    return failed('unit_failed', `${unit} failed after it was started${resultOf(now)}`, did);
  if (isOneOf(now, DOWN)) {
    if (SKIPPED.test(log))
      return failed('unit_condition_failed', `${unit} was not started: ${lastLine(log)}`);
    // It has done its work.
    if (now.get('Type') === 'oneshot') return { did };
    return failed('unit_not_started', `${unit} was started and is inactive: it has ended by itself`, did);
  }
  if (!isOneOf(now, UP))
    return failed('unit_not_started', `${unit} is ${now.get('ActiveState')}/${now.get('SubState')}`, did);
  if (startOf(now) !== startOf(after))
    return failed('unit_changed_meanwhile', `${unit} was started again by somebody else`, did);
  const isSameStart = wasUp && startOf(before) === startOf(now);
  if (verb === 'start') return { did: isSameStart ? 'nothing' : did };
  return isSameStart ? failed('unit_did_not_stop', `${unit} runs as before: it was not restarted`) : { did };
}

const SKIPPED = /skipped/;

function stopped({ unit, status, output, before, after }: Evidence): Judgement {
  if (status !== 0) return failed('unit_did_not_stop', `${unit} was not stopped: ${output}`);
  if (!isOneOf(after, DOWN)) {
    const state = `${after.get('ActiveState')}/${after.get('SubState')}`;
    return failed('unit_did_not_stop', `${unit} was stopped and is ${state}: something has started it again`);
  }
  return { did: isOneOf(before, DOWN) ? 'nothing' : 'stopped' };
}

function reloaded({ unit, status, output, before, after, later }: Evidence): Judgement {
  if (status !== 0) {
    if (/not applicable/.test(output) || before.get('CanReload') === 'no')
      return failed('unit_cannot_reload', `${unit} cannot be reloaded: its file has no ExecReload`);
    if (!isOneOf(before, UP))
      return failed('unit_not_active', `${unit} is not active, so it cannot be reloaded`);
    return failed('unit_failed', `${unit} was not reloaded: ${output}`);
  }
  return isOneOf(later ?? after, UP)
    ? { did: 'reloaded' }
    : failed('unit_failed', `${unit} failed after it was reloaded${resultOf(later ?? after)}`, 'reloaded');
}

function enabled({ unit, status, output, before, after }: Evidence): Judgement {
  const state = after.get('UnitFileState') ?? '';
  if (status === 0 && ENABLED.has(state))
    return { did: ENABLED.has(before.get('UnitFileState') ?? '') ? 'nothing' : 'enabled' };
  // Its file says only Also=, so it is others that are enabled.
  if (status === 0 && state === 'indirect')
    return { did: /^Created symlink/m.test(output) ? 'enabled' : 'nothing' };
  return failed(
    'unit_not_installable',
    `${unit} cannot be enabled (it is ${state || 'of no state'}): ${firstLine(output) || 'its file has no section [Install]'}`,
  );
}

function disabled({ unit, status, output, before, after }: Evidence): Judgement {
  if (status !== 0) return failed('unit_not_installable', `${unit} cannot be disabled: ${firstLine(output)}`);
  if (ENABLED.has(after.get('UnitFileState') ?? ''))
    return failed('unit_not_installable', `${unit} is still enabled: ${firstLine(output)}`);
  const wasEnabled = ENABLED.has(before.get('UnitFileState') ?? '') || /^Removed/m.test(output);
  return { did: wasEnabled ? 'disabled' : 'nothing' };
}

const UP = ['active', 'reloading', 'refreshing'];
const DOWN = ['inactive', 'failed'];
const ENABLED: ReadonlySet<string> = new Set([
  'enabled',
  'enabled-runtime',
  'alias',
  'linked',
  'linked-runtime',
]);

function isOneOf(properties: UnitProperties, states: readonly string[]): boolean {
  return states.includes(properties.get('ActiveState') ?? '');
}

/** What names a start: before systemd 232 its process. */
function startOf(properties: UnitProperties): string {
  return properties.get('InvocationID') || (properties.get('MainPID') ?? '');
}

function restartsOf(properties: UnitProperties): number {
  return Number(properties.get('NRestarts') ?? 0);
}

export function resultOf(properties: UnitProperties): string {
  const [result, status] = [properties.get('Result') ?? '', properties.get('ExecMainStatus') ?? '0'];
  if (result === '' || result === 'success') return '';
  return status === '0' ? ` (${result})` : ` (${result}, status ${status})`;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? '';
}

function failed(code: string, message: string, did?: string): Judgement {
  return { code, message: message.replace(/: $/, ''), ...(did !== undefined && { did }) };
}
