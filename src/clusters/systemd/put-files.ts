import { createHash } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import type { Machine } from '../../api/fleet-transport.js';
import { mapLimited } from '../../api/map-limited.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { PutOrder, UnitPut, UnitText } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import { unitDiff } from '../unit-diff.js';
import { checkFiles, type FileCheck } from './file-check.js';
import { AT_ONCE } from './machine-answers.js';
import type { WorkResult } from './machine-requests.js';
import { type MachineRequest, onceOnMachines } from './once-on-machines.js';
import { PUT_WORK } from './put-script.js';
import { conditionOf, eachIn, type UnitProperties } from './unit-properties.js';
import { resultOf } from './verb-outcome.js';
import { endOf } from './work-end.js';

const SETTLE_MS = 2_000;
/** Of file systems, and of systemd. */
const LONGEST_NAME = 255;
/** The longest texts of one order together, in bytes: they travel in one argument of a command, which has at most 128 KiB. */
const MOST_BYTES = 80 * 1024;

interface Checked {
  machine: Machine;
  check: FileCheck;
}

/**
 * Writes unit files on machines, when every machine accepts them.
 * @throws ActionError that says what a machine has against them; nothing was changed
 */
export async function putOn(
  { shell, clock }: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  order: PutOrder,
  machines: readonly Machine[],
): Promise<UnitPut[]> {
  const { files, activate, dryRun = false, settleMs = SETTLE_MS, timeoutMs } = order;
  requireShort(files);
  const checked = await mapLimited(machines, AT_ONCE, async (machine): Promise<Checked> => {
    return { machine, check: await checkFiles(shell, machine.primaryIP ?? '', files, request.signal) };
  });
  if (request.repeated && !dryRun) requireAcceptedAgain(checked);
  else requireAccepted(checked);
  if (dryRun) return checked.flatMap((each) => files.map((file, index) => planned(each, file, index)));
  const units = files.map(({ unit }) => unit);
  const done = await onceOnMachines(
    { shell, clock },
    request,
    {
      change: ['put', ...units],
      unit: units.join(', '),
      work: PUT_WORK,
      timeoutMs,
      settleMs: activate === 'none' ? 0 : settleMs,
    },
    checked.map((each) => ({
      ...each,
      age: each.check.age,
      args: [activate, String(Math.ceil(settleMs / 1_000)), ...argumentsFor(files, each.check)],
    })),
  );
  return done.flatMap(({ at, ...each }) => {
    // An earlier delivery may have written the files, so what they replaced is what the machine keeps of that.
    const then = 'result' in each ? filesIn(each.result.log) : undefined;
    const check = { ...at.check, present: then ?? at.check.present };
    return files.map((file, index) => ({
      ...planned({ machine: at.machine, check }, file, index),
      ...('result' in each ? putOutcome(file, index, { order, check }, each.result) : each.unmade),
    }));
  });
}

/** For each file its unit, the sum of what it replaces, and its text. */
function argumentsFor(files: readonly UnitText[], { present }: FileCheck): string[] {
  return files.flatMap(({ unit, text }, index) => {
    const replaced = present[index] ?? null;
    return [unit, replaced === null ? 'none' : sha256(replaced), Buffer.from(text).toString('base64')];
  });
}

/** @throws ActionError */
function requireAccepted(checked: readonly Checked[]): void {
  for (const { machine, check } of checked) {
    const where = `on ${machine.primaryIP ?? machine.id}`;
    const [link] = check.links;
    if (link !== undefined)
      throw link.target === '/dev/null'
        ? new ActionError('unit_masked', `${link.unit} is masked ${where}: nothing was changed`)
        : new ActionError(
            'unit_file_invalid',
            `The file of ${link.unit} ${where} is a link to ${link.target}: nothing was changed. Change that file, or remove the link`,
          );
    const [hidden] = check.hidden;
    if (hidden !== undefined)
      throw new ActionError(
        'unit_file_invalid',
        `${hidden.unit} ${where} has the file ${hidden.by}, which takes precedence: nothing was changed`,
      );
    const [other] = check.others;
    if (other !== undefined)
      throw new ActionError(
        'unit_file_invalid',
        `${other} ${where} is no file, or one of more than 1 MiB: nothing was changed`,
      );
    if (check.problems.length > 0)
      throw new ActionError(
        'unit_file_invalid',
        `systemd does not accept the file ${where}, and nothing was changed: ${check.problems[0]}`,
        { details: { machine_id: machine.id, problems: check.problems.slice(0, 50) } },
      );
  }
}

/** @throws ActionError when a machine does not accept what it may have got for an earlier delivery */
function requireAcceptedAgain(checked: readonly Checked[]): void {
  try {
    requireAccepted(checked);
  } catch (cause) {
    throw new ActionError(
      'outcome_unknown',
      `A worker may have written the files for an earlier delivery of the request. They are not written now: ${reasonOf(cause)}`,
      { cause },
    );
  }
}

/** @throws ActionError */
function requireShort(files: readonly UnitText[]): void {
  const long = files.find(({ unit }) => unit.length > LONGEST_NAME);
  if (long !== undefined)
    throw new ActionError(
      'invalid_parameters',
      `Nothing was changed: a machine keeps no file with a name of more than ${LONGEST_NAME} characters`,
    );
  const bytes = files.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
  if (bytes > MOST_BYTES)
    throw new ActionError(
      'invalid_parameters',
      `Nothing was changed: the texts have ${bytes} bytes together, and at most ${MOST_BYTES} can be sent at once. Put fewer files in one request`,
    );
}

/** The files that `PUT_WORK` found; undefined: it did not get so far. */
function filesIn(log: string): (Buffer | null)[] | undefined {
  const lines = log.split('\n').filter((line) => line !== '');
  if (lines.length === 0) return undefined;
  return lines.map((line) => (line.startsWith('file ') ? Buffer.from(line.slice(5), 'base64') : null));
}

/** What a machine would do, or does, with a file. */
function planned({ machine, check }: Checked, { unit, text }: UnitText, index: number): UnitPut {
  const present = check.present[index] ?? null;
  return {
    unit,
    machine_id: machine.id,
    host: machine.primaryIP,
    did: didWith(present, text),
    before: null,
    after: null,
    took_ms: 0,
    error: null,
    replaced: present?.toString() ?? null,
    diff: unitDiff(unit, present?.toString() ?? null, text),
    warnings: check.warnings,
  };
}

function didWith(present: Buffer | null, text: string): string {
  if (present === null) return 'created';
  return present.equals(Buffer.from(text)) ? 'nothing' : 'replaced';
}

function putOutcome(
  { unit, text }: UnitText,
  index: number,
  { order: { files, activate }, check }: { order: PutOrder; check: FileCheck },
  result: WorkResult,
): Pick<UnitPut, 'did' | 'before' | 'after' | 'took_ms' | 'error'> {
  const at = (section: string) => {
    const properties = eachIn(section)[index];
    return properties === undefined ? null : conditionOf(properties);
  };
  const failed = (code: string, message: string, did = 'nothing') => ({
    did,
    before: at(result.before),
    after: at(result.later || result.after),
    took_ms: result.tookMs,
    error: { code, message },
  });
  const said = result.output === '' ? '' : `: ${result.output}`;
  const [before, after] = [eachIn(result.before), eachIn(result.after)];
  const down = files.flatMap((file, place) => {
    const [was, is] = [before[place], after[place]];
    const isDue = activate === 'start' || (activate === 'restart' && is !== undefined && runs(was));
    if (!isDue || is === undefined) return [];
    if (Number(is.get('NRestarts') ?? 0) > 0) return [`${file.unit} is started again and again`];
    return runs(is) ? [] : [`${file.unit} is not active${resultOf(is)}`];
  });
  const why = down.length === 0 ? 'Not active with the new file' : `${down.join(', ')} with its new file`;
  const did = didWith(check.present[index] ?? null, text);
  const end = endOf(unit, result);
  if ('code' in end) return failed(end.code, end.message);
  switch (end.status) {
    case 0:
      return {
        did,
        before: at(result.before),
        after: at(result.after),
        took_ms: result.tookMs,
        error: null,
      };
    case 1:
      return failed('unit_failed', `${why}, so all files are as before again${said}`, 'returned');
    case 2:
      return failed('unit_changed_meanwhile', `Somebody has changed the file of ${unit}: it was left so`);
    case 3:
      return failed('unit_failed', `${why}, and left so, as somebody has changed a file since${said}`, did);
    case 4:
      return failed(
        'unit_failed',
        `${why}, so all files are as before again, and the units do not run with them either${said}`,
        'returned',
      );
    case 5:
      return failed(
        'command_failed',
        `The machine cannot keep the files in /var/lib/fleet-manager, so none was written: it is full, or read-only`,
      );
    case 6:
      return failed(
        'unit_changed_meanwhile',
        `The file of ${unit} was written, and somebody has changed a file since: look what it is now`,
        did,
      );
    case 8:
      return failed(
        'command_failed',
        `A file could not be written, so all are as before: /etc/systemd/system is full, or read-only${said}`,
        'returned',
      );
    default:
      return failed('unit_failed', `${why}, and the old one could not be put back${said}`, did);
  }
}

/** As the machine itself judges it. */
function runs(properties: UnitProperties | undefined): boolean {
  if (properties?.get('SubState')?.startsWith('auto-restart') === true) return false;
  const active = properties?.get('ActiveState');
  if (active === 'failed') return false;
  return active === 'active' || active === 'reloading' || properties?.get('Type') === 'oneshot';
}

function sha256(text: Buffer): string {
  return createHash('sha256').update(text).digest('hex');
}
