import { type Reading, unreadable } from './facts.js';
import type { FailedUnits, OsImage } from './result.js';

/** How many names of failed units are in the result. */
const MAX_NAMES = 20;

/** Reads the version in `podman version`. The remote client shows its own one, and then that of the server, which counts. */
export function readPodman(text: string): Reading<string> {
  const version = [...text.matchAll(/^[ \t]*Version:[ \t]*(\S+)/gm)].at(-1)?.[1];
  if (version === undefined) throw unreadable('podman version');
  return { facts: version };
}

/**
 * Reads `rpm-ostree status --json`. Its first deployment is the one that boots next; it is staged, or pending (of versions that stage
 * nothing), when it is not the booted one. A deployment need not have a version, but always a checksum.
 */
export function readRpmOstree(text: string): Reading<OsImage> {
  const status = jsonOf(text);
  const deployments = isRecord(status) && Array.isArray(status.deployments) ? status.deployments : undefined;
  if (deployments === undefined || !deployments.every(isRecord)) throw unreadable('rpm-ostree status');
  const booted = deployments.find((each) => each.booted === true);
  const next = deployments.find((each) => each.staged === true) ?? deployments[0];
  const staged = next === booted ? undefined : next;
  return {
    facts: {
      updated_by: 'rpm-ostree',
      booted_version: versionOf(booted),
      staged: staged !== undefined,
      staged_version: versionOf(staged),
    },
  };
}

function versionOf(deployment: Record<string, unknown> | undefined): string | null {
  for (const text of [deployment?.version, deployment?.checksum])
    if (typeof text === 'string' && text !== '') return text;
  return null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What update_engine says when it has no version to tell. */
const NO_VERSION = '0.0.0.0';

/**
 * Reads `update_engine_client -status` of Container Linux and Flatcar. The version that it names is staged only once it waits for a reboot;
 * before 2017 it names none even then.
 * @param booted the VERSION_ID of os-release
 */
export function readUpdateEngine(text: string, booted: string | null): Reading<OsImage> {
  const operation = /^CURRENT_OP=(\S+)$/m.exec(text)?.[1];
  const version = /^NEW_VERSION=(\S+)$/m.exec(text)?.[1];
  if (operation === undefined) throw unreadable('update_engine_client');
  const staged = operation === 'UPDATE_STATUS_UPDATED_NEED_REBOOT';
  return {
    facts: {
      updated_by: 'update_engine',
      booted_version: booted,
      staged,
      staged_version: staged && version !== undefined && version !== NO_VERSION ? version : null,
    },
  };
}

/** Reads `systemctl list-units --state=failed --plain --no-legend`: the name is the first column of each line. */
export function readFailedUnits(text: string): Reading<FailedUnits> {
  const names = text.split('\n').flatMap((line) => /\S+/.exec(line) ?? []);
  // A unit has a type: `x.service`.
  if (!names.every((name) => name.includes('.'))) throw unreadable('systemctl list-units');
  return { facts: { count: names.length, names: names.slice(0, MAX_NAMES) } };
}
