import test from 'ava';
import { fileSystemsIn } from '../plugins/check-cluster/file-systems.js';
import { fleetFilesIn, clusterUnitsIn, shownUnitsIn } from '../plugins/check-cluster/machine-units.js';
import { readDisk, readDocker, readMachine, readOs } from '../plugins/node-info/facts.js';
import {
  readFailedUnits,
  readPodman,
  readRpmOstree,
  readUpdateEngine,
} from '../plugins/node-info/system-facts.js';
import { readAssignments } from '../plugins/node-info/os-release.js';
import { notesOf, oldestFirst } from '../plugins/unit-logs/journal-text.js';
import { mayNotReadJournal } from '../src/api/journal-rights.js';
import { readable } from '../src/api/readable-text.js';
import { readLine } from '../src/access/audit/audit-line.js';
import { maskedParameters } from '../src/access/audit/masked-parameters.js';
import { globMatcher, isHostAddress, isUnitName } from '../src/api/grammar.js';
import { readTogether } from '../src/api/together-script.js';
import { requirementsOf } from '../src/api/unit-requirements.js';
import { memberHosts } from '../src/clusters/fleet/member-hosts.js';
import { readPage, readUnit } from '../src/clusters/fleet/fleet-responses.js';
import { formatFinding } from '../src/commands/finding.js';
import { parseExactly } from '../src/lib/exact-json.js';
import { maskedIfUrl, maskedUrl } from '../src/lib/masked-url.js';
import { printable, printableLines } from '../src/lib/printable.js';
import { errorTextOf } from '../src/openaperture/error-responses.js';
import { idOfLocation } from '../src/openaperture/manager-responses.js';
import { isSameRequest } from '../src/openaperture/same-request.js';
import { endOfText, lastLine } from '../src/lib/machine-text.js';

/** A quadratic search in a text of this length would take minutes: ava's time limit of the file fails it. */
const CHARACTERS = 300_000;

const PIECES = [
  '\r',
  '\n',
  ' ',
  'a',
  '1',
  '*',
  '=',
  '"',
  '\\',
  ':',
  '@',
  '/',
  '-',
  '%n',
  'é',
  '\u001b]',
  ' 1',
  '" "',
];
const BEGINNINGS = ['', 'A="', 'Client version:', 'MemTotal:', '{"a":"'];
const ENDS = ['x', '€'];

/** Everything that reads text which machines, fleet, discovery, the Manager or callers write. */
const READERS: Record<string, (text: string) => unknown> = {
  readable,
  'oldestFirst of stdout': (stdout) => oldestFirst({ stdout, stderr: '', truncated: true }, CHARACTERS),
  'oldestFirst of stderr': (stderr) => oldestFirst({ stdout: '', stderr, truncated: false }, CHARACTERS),
  mayNotReadJournal,
  'notesOf a hint': (text) => notesOf(`Hint: You are currently not seeing messages from ${text}`),
  readDisk,
  readOs,
  readAssignments,
  readDocker,
  readMachine,
  readPodman,
  readRpmOstree,
  readUpdateEngine: (text) => readUpdateEngine(text, null),
  readFailedUnits,
  clusterUnitsIn,
  shownUnitsIn,
  fleetFilesIn,
  fileSystemsIn: (text) => fileSystemsIn(text, text, text),
  'readTogether of a time': (time) => readTogether(`*b${time}`, '*'),
  'readTogether of outputs': (text) => readTogether(text, '*'),
  endOfText,
  lastLine,
  printable,
  printableLines,
  maskedUrl,
  maskedIfUrl,
  maskedParameters: (text) => maskedParameters({ [text]: text, list: [text, text] }, undefined),
  'readLine of the audit': readLine,
  formatFinding: (text) => formatFinding('ssh', { result: 'FAILED', lines: [text] }),
  isSameRequest: (text) => isSameRequest({ action: text }, { action: `${text}.` }),
  'isSameRequest of JSON': (text) => isSameRequest(text, { action: text }),
  errorTextOf: (text) => errorTextOf({ text }),
  idOfLocation,
  parseExactly,
  isHostAddress,
  isUnitName,
  globMatcher: (text) => globMatcher('*a*a*a*b')(text),
  memberHosts: (value) => memberHosts({ node: { nodes: [{ value }, { value: 'http://10.0.0.1' }] } }),
  readPage: (name) =>
    readPage({ units: [{ name, currentState: 1 }] }, { of: 'units', readRow: readUnit, keyOf: () => '' }),
  requirementsOf: (value) =>
    requirementsOf({
      name: `${'n'.repeat(240)}.service`,
      options: [{ section: 'X-Fleet', name: 'MachineMetadata', value }],
    }),
};

test('long runs of line breaks are read right', (t) => {
  const returns = '\r'.repeat(CHARACTERS);
  t.is(readable(`${returns}x${returns}\n${returns}`), `${'\u240d'.repeat(CHARACTERS)}x\n`);
  const breaks = '\n'.repeat(CHARACTERS);
  t.is(
    readDocker(`Client:${breaks} Version: 1.2\nServer:${breaks} Version: 1.3`).facts.server_version,
    '1.3',
  );
  t.is(readOs(`${breaks}ID=coreos${breaks}`).facts.id, 'coreos');
  t.is(readOs(`${breaks}#`).facts.id, 'linux');
  t.throws(() => readOs(`${breaks}!`), { code: 'answer_unreadable' });
  t.is(readMachine(`1.5 1 1${breaks}x\n7.5 1.0${breaks}`).facts.uptime_seconds, 7);
});

test('a unit file of many specifiers takes no more memory than it has', (t) => {
  const option = (value: string) => ({ section: 'X-Fleet', name: 'MachineMetadata', value });
  const name = `${'n'.repeat(240)}.service`;
  const { metadata } = requirementsOf({
    name,
    options: [option('unit=%n'), option(`more=${'%n'.repeat(CHARACTERS)}`)],
  });
  t.deepEqual([...(metadata.get('unit') ?? [])], [name]);
  t.deepEqual([...(metadata.get('more') ?? [])], ['%n'.repeat(CHARACTERS)]);
});

test('a text of Latin-1 is compared as it was before it was encoded twice, and another one as it is', (t) => {
  const twice = (text: string) => Buffer.from(text).toString('latin1');
  t.true(isSameRequest({ action: twice('é') }, { action: 'é' }));
  t.false(isSameRequest({ action: `${twice('é')}€` }, { action: 'é€' }));
});

for (const [name, read] of Object.entries(READERS)) {
  test(`${name} reads repetitive text in a time that grows as its length`, (t) => {
    for (const piece of PIECES)
      for (const beginning of BEGINNINGS)
        for (const end of ENDS) {
          const text = `${beginning}${piece.repeat(CHARACTERS / piece.length)}${end}`;
          const result = settled(() => read(text));
          t.true(result === 'read' || result instanceof Error);
        }
  });
}

/** Text may be refused. */
function settled(read: () => unknown): unknown {
  try {
    read();
    return 'read';
  } catch (error) {
    return error;
  }
}
