import { createHash, randomUUID } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import type { Machine } from '../../api/fleet-transport.js';
import { isTemplateName } from '../../api/grammar.js';
import { mapLimited } from '../../api/map-limited.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { PutOrder, UnitChange, UnitOrder, UnitPut, UnitText } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import { unitDiff } from '../unit-diff.js';
import { checkFiles, type FileCheck } from './file-check.js';
import { doOnce, workKey, type WorkResult } from './machine-requests.js';
import { DESTROY_WORK, PUT_WORK } from './put-script.js';
import { DENIED } from './verb-outcome.js';
import { conditionOf, eachIn, propertiesIn } from './unit-properties.js';
import { type AgedMachine, type MachineRequest, notMade, requireKey, waitMsOf } from './unit-verbs.js';

const AT_ONCE = 64;
const SETTLE_MS = 2_000;
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
export async function putFiles(
  { shell, clock }: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  order: PutOrder,
  machines: readonly Machine[],
): Promise<UnitPut[]> {
  const { files, activate, dryRun = false, settleMs = SETTLE_MS, timeoutMs } = order;
  requireKey(request, files.map(({ unit }) => unit).join(', '));
  requireShort(files);
  const checked = await mapLimited(machines, AT_ONCE, async (machine): Promise<Checked> => {
    return { machine, check: await checkFiles(shell, machine.primaryIP ?? '', files, request.signal) };
  });
  if (request.repeated && !dryRun) requireAcceptedAgain(checked);
  else requireAccepted(checked);
  if (dryRun) return checked.flatMap((each) => files.map((file, index) => planned(each, file, index)));
  const name = request.key ?? randomUUID();
  const units = files.map(({ unit }) => unit);
  const puts = await mapLimited(checked, AT_ONCE, async ({ machine, check }) => {
    const { id, primaryIP: host } = machine;
    const sums = check.present.map((text) => (text === null ? 'none' : sha256(text)));
    const args = files.flatMap(({ unit, text }, index) => [
      unit,
      sums[index] ?? 'none',
      Buffer.from(text).toString('base64'),
    ]);
    try {
      const result = await doOnce(
        shell,
        {
          host: host ?? '',
          key: workKey(name, id, 'put', ...units),
          repeated: request.repeated,
          age: check.age,
          work: PUT_WORK,
          args: [activate, String(Math.ceil(settleMs / 1_000)), ...args],
        },
        { signal: request.signal, waitMs: waitMsOf(request, timeoutMs, clock), clock },
      );
      // An earlier delivery may have written the files, so what they replaced is what the machine keeps of that.
      const then = { ...check, present: filesIn(result.log) ?? check.present };
      return files.map((file, index) => ({
        ...planned({ machine, check: then }, file, index),
        ...putOutcome(file, index, then, result),
      }));
    } catch (error) {
      return files.map((file, index) => ({ ...planned({ machine, check }, file, index), ...notMade(error) }));
    }
  });
  return puts.flat();
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
  check: FileCheck,
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
  const did = didWith(check.present[index] ?? null, text);
  if (result.outcome === 'refused') return failed(...refusal(unit, result));
  if (result.outcome !== 'ended' || result.status === undefined)
    return failed(
      'outcome_unknown',
      `It is not known whether the file of ${unit} was written (${result.outcome})${said}`,
    );
  switch (result.status) {
    case 0:
      return {
        did,
        before: at(result.before),
        after: at(result.after),
        took_ms: result.tookMs,
        error: null,
      };
    case 1:
      return failed(
        'unit_failed',
        `Not active with its new file, so all files are as before again${said}`,
        'returned',
      );
    case 2:
      return failed('unit_changed_meanwhile', `Somebody has changed the file of ${unit}: it was left so`);
    case 3:
      return failed(
        'unit_failed',
        `Not active with its new file, and left so, as somebody has changed a file since${said}`,
        did,
      );
    case 4:
      return failed(
        'unit_failed',
        `Not active with its new file, so all files are as before again, and the units do not run with them either${said}`,
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
    default:
      return failed(
        'unit_failed',
        `Not active with its new file, and the old one could not be put back${said}`,
        did,
      );
  }
}

/** The code and the message when a machine did not begin the work. */
function refusal(unit: string, { output }: WorkResult): [code: string, message: string] {
  return DENIED.test(output)
    ? ['not_permitted', `The login of the service may not change ${unit}: ${output}`]
    : ['command_failed', `${unit} was not changed, as the machine did not begin: ${output}`];
}

/** Stops a unit on machines, and removes its file. */
export async function destroyOn(
  { shell, clock }: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  { unit, timeoutMs }: Pick<UnitOrder, 'unit' | 'timeoutMs'>,
  machines: readonly AgedMachine[],
): Promise<UnitChange[]> {
  requireKey(request, unit);
  const name = request.key ?? randomUUID();
  return mapLimited(machines, AT_ONCE, async ({ machine, age }) => {
    const { id, primaryIP: host } = machine;
    const of = { machine_id: id, host };
    try {
      const result = await doOnce(
        shell,
        {
          host: host ?? '',
          key: workKey(name, id, 'destroy', unit),
          repeated: request.repeated,
          age,
          work: DESTROY_WORK,
          args: [unit],
        },
        { signal: request.signal, waitMs: waitMsOf(request, timeoutMs, clock), clock },
      );
      return { ...of, ...destroyOutcome(unit, result) };
    } catch (error) {
      return { ...of, ...notMade(error) };
    }
  });
}

function destroyOutcome(unit: string, result: WorkResult): Omit<UnitChange, 'machine_id' | 'host'> {
  const [before, after] = [propertiesIn(result.before), propertiesIn(result.after)];
  const proof = {
    before: before === undefined ? null : conditionOf(before),
    after: after === undefined ? null : conditionOf(after),
    took_ms: result.tookMs,
  };
  const failed = (code: string, message: string, did = 'nothing') => ({
    ...proof,
    did,
    error: { code, message },
  });
  if (result.outcome === 'refused') return failed(...refusal(unit, result));
  if (result.outcome !== 'ended' || result.status === undefined)
    return failed(
      'outcome_unknown',
      `It is not known whether ${unit} was removed (${result.outcome}): ${result.output}`,
    );
  if (result.status === 1)
    return failed('unit_did_not_stop', `${unit} did not stop, and its file is left: ${result.output}`);
  if (result.status === 2)
    return before?.get('LoadState') === 'not-found'
      ? failed('unit_not_found', `The machine has no unit ${unit}`)
      : failed(
          'unit_file_invalid',
          `${unit} has no file in the folder of the operator, so it is not removed: it is the distribution's, generated or transient`,
        );
  if (result.status === 3)
    return failed(
      'command_failed',
      `${unit} was stopped and disabled, and its file could not be removed: ${result.output}`,
      'stopped',
    );
  if (result.status === 4)
    return failed(
      'command_failed',
      `${unit} was not changed, as the machine cannot keep its file in /var/lib/fleet-manager: ${result.output}`,
    );
  const active = after?.get('ActiveState') ?? 'inactive';
  if (active !== 'inactive' && active !== 'failed')
    return failed(
      'unit_did_not_stop',
      `The file of ${unit} was removed, and it is ${active}: something has started it again`,
      'removed',
    );
  return { ...proof, did: isTemplateName(unit) ? 'removed' : 'stopped and removed', error: null };
}

function sha256(text: Buffer): string {
  return createHash('sha256').update(text).digest('hex');
}
