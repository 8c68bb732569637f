import test from 'ava';
import fc from 'fast-check';
import { clockOffset } from '../../src/api/clock-offset.js';
import {
  readFailedUnits,
  readPodman,
  readRpmOstree,
  readUpdateEngine,
} from '../../plugins/node-info/system-facts.js';
import { ActionError } from '../../src/plugin.js';

test('the version of Podman is read in the format of each of its versions, of a remote client that of the server', (t) => {
  const local =
    'Version:      4.3.1\nAPI Version:  4.3.1\nGo Version:   go1.19.8\nOS/Arch:      linux/amd64\n';
  t.is(readPodman(local).facts, '4.3.1');
  t.is(readPodman(`Client:       Podman Engine\n${local}`).facts, '4.3.1');
  t.is(readPodman('Version:            1.6.4\nRemoteAPI Version:  1\n').facts, '1.6.4');
  const remote = `Client:\n${local}\nServer:\nVersion:      5.2.0\nAPI Version:  5.2.0\n`;
  t.is(readPodman(remote).facts, '5.2.0');
  t.throws(() => readPodman('API Version:  4.3.1\n'), { code: 'answer_unreadable' });
});

/** The output of `rpm-ostree status --json` with these deployments, the one that boots next first. */
const rpmOstree = (...deployments: object[]) =>
  JSON.stringify({ deployments, transaction: null, 'cached-update': null });
const deployment = (version: string, more: object = {}) => ({
  id: `fedora-coreos-${version}`,
  osname: 'fedora-coreos',
  version,
  checksum: `checksum of ${version}`,
  booted: false,
  staged: false,
  packages: [],
  ...more,
});

test('of rpm-ostree the booted version and the one that boots next are read', (t) => {
  const [booted, old] = [deployment('39.1', { booted: true }), deployment('38.9')];
  const image = { updated_by: 'rpm-ostree', booted_version: '39.1' };
  t.deepEqual(readRpmOstree(rpmOstree(booted, old)).facts, { ...image, staged: false, staged_version: null });
  const staged = { ...image, staged: true, staged_version: '40.2' };
  t.deepEqual(readRpmOstree(rpmOstree(deployment('40.2', { staged: true }), booted, old)).facts, staged);
  // Old versions stage nothing, and after `rpm-ostree rollback` nothing is staged either.
  t.deepEqual(readRpmOstree(rpmOstree(deployment('40.2'), booted)).facts, staged);
  t.like(readRpmOstree(rpmOstree({ ...booted, version: undefined })).facts, {
    booted_version: 'checksum of 39.1',
  });
  t.deepEqual(readRpmOstree(rpmOstree()).facts, {
    updated_by: 'rpm-ostree',
    booted_version: null,
    staged: false,
    staged_version: null,
  });
  for (const text of ['', '{', '[]', '{"deployments":{}}', '{"deployments":[null]}'])
    t.throws(() => readRpmOstree(text), { code: 'answer_unreadable' }, text);
});

/** The output of `update_engine_client -status`. */
const updateEngine = (operation: string, version: string) =>
  `LAST_CHECKED_TIME=1483651389\nPROGRESS=0.080264\nCURRENT_OP=UPDATE_STATUS_${operation}\nNEW_VERSION=${version}\nNEW_SIZE=267797159\n`;

test('a version of update_engine is staged only when it waits for a reboot, also when it is not named', (t) => {
  const image = { updated_by: 'update_engine', booted_version: '1284.0.0' };
  const read = (operation: string, version: string) =>
    readUpdateEngine(updateEngine(operation, version), '1284.0.0').facts;
  const none = { ...image, staged: false, staged_version: null };
  t.deepEqual(read('IDLE', '0.0.0.0'), none);
  t.deepEqual(read('DOWNLOADING', '1298.1.0'), none);
  t.deepEqual(read('UPDATED_NEED_REBOOT', '1298.1.0'), {
    ...image,
    staged: true,
    staged_version: '1298.1.0',
  });
  t.deepEqual(read('UPDATED_NEED_REBOOT', '0.0.0.0'), { ...image, staged: true, staged_version: null });
  t.throws(() => readUpdateEngine('', null), { code: 'answer_unreadable' });
});

test('failed units are counted, and the first twenty named', (t) => {
  t.deepEqual(readFailedUnits('').facts, { count: 0, names: [] });
  const line = (name: string) => `${name} loaded failed failed A unit of the operator\n`;
  t.deepEqual(readFailedUnits(`${line('web@1.service')}${line('backup.timer  ')}`).facts, {
    count: 2,
    names: ['web@1.service', 'backup.timer'],
  });
  const many = Array.from({ length: 30 }, (_, number) => `unit${number}.service`);
  t.deepEqual(readFailedUnits(many.map(line).join('')).facts, { count: 30, names: many.slice(0, 20) });
  t.throws(() => readFailedUnits('Failed to list units\n'), { code: 'answer_unreadable' });
});

test('whatever these programs print, it is read or reported as unreadable', (t) => {
  const readUpdates = (text: string) => readUpdateEngine(text, null);
  for (const read of [readPodman, readRpmOstree, readUpdates, readFailedUnits])
    t.notThrows(() =>
      fc.assert(
        fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
          try {
            read(text);
          } catch (error) {
            if (!(error instanceof ActionError)) throw error;
          }
        }),
      ),
    );
});

test('the offset of a clock is within its uncertainty, however long the ways and the programs took', (t) => {
  const ms = fc.nat({ max: 100_000 });
  const offset = fc.integer({ min: -1e9, max: 1e9 });
  t.notThrows(() =>
    fc.assert(
      fc.property(
        offset,
        ms,
        ms,
        ms,
        fc.constantFrom(1, 1_000),
        (real, there, running, back, precisionMs) => {
          const askedAt = 1_800_000_000_000;
          const read = (at: number) => {
            const exact = at + real;
            return { ms: exact - (((exact % precisionMs) + precisionMs) % precisionMs), precisionMs };
          };
          const began = read(askedAt + there);
          const ended = read(askedAt + there + running);
          const answeredAt = askedAt + there + running + back;
          for (const last of [ended, undefined]) {
            const found = clockOffset({ began, ended: last, askedAt, answeredAt });
            if (found === undefined) return false;
            const { offset_ms, uncertainty_ms } = found;
            if (Math.abs(offset_ms - real) > uncertainty_ms) return false;
            const onTheWay = there + back + (last === undefined ? running : 0);
            if (uncertainty_ms > (onTheWay + 2 * precisionMs) / 2 + 1) return false;
          }
          return true;
        },
      ),
    ),
  );
});

test('a clock that was set meanwhile has no offset, nor one that is not known', (t) => {
  const [began, ended] = [
    { ms: 5_000, precisionMs: 1 },
    { ms: 8_000, precisionMs: 1 },
  ];
  const asked = { askedAt: 1_000, answeredAt: 1_100 };
  t.is(clockOffset({ began, ended, ...asked }), undefined);
  t.is(clockOffset({ began: undefined, ended: undefined, ...asked }), undefined);
});
