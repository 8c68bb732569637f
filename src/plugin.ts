/**
 * Everything an action plugin needs, and nothing else. CONTRIBUTING.md shows how to write one.
 */
export {
  type Action,
  type ActionDefinition,
  type ActionRequest,
  type ActionWithResult,
  CONTRACT_VERSION,
  defineAction,
  type Drain,
  isAction,
  type RequestLog,
  type Target,
} from './api/action.js';
export { ActionError } from './api/action-error.js';
export { ActionCallError, Actions, type NestedCallOptions } from './api/actions.js';
export type { ActionDescription } from './api/action-description.js';
export type { Caller, Voucher } from './api/caller.js';
export type { Cancellable } from './api/cancellable.js';
export { Clock } from './api/clock.js';
export { type ClockOffset, clockOffset } from './api/clock-offset.js';
export type { Cluster } from './api/cluster.js';
export { Clusters, type NamedCluster } from './api/clusters.js';
export { EtcdResolver } from './api/etcd-resolver.js';
export {
  type ChangeOptions,
  type ClusterHostsReport,
  DESIRED_STATES,
  type DesiredState,
  FleetTransport,
  type ListOptions,
  type StateListOptions,
  type UnitListOptions,
  type UnitReadOptions,
  type Machine,
  type MachineAddress,
  type Unit,
  type UnitOption,
  type UnitState,
} from './api/fleet-transport.js';
export {
  canonicalHost,
  glob,
  globMatcher,
  hostAddress,
  isHostAddress,
  isTemplateName,
  machineId,
  mapOf,
  stringMap,
  unitName,
} from './api/grammar.js';
export { journalRightsMissing, mayNotReadJournal } from './api/journal-rights.js';
export { type LoadedUnit, loadedUnitsIn } from './api/loaded-units.js';
export { mapLimited } from './api/map-limited.js';
export { unitsWithoutState, type UnitWithoutState } from './api/missing-states.js';
export { pendingHosts } from './api/pending-change.js';
export { readable, readableLine } from './api/readable-text.js';
export { type RemoteOutput, type RemoteRunOptions, RemoteShell } from './api/remote-shell.js';
export type { RowList } from './api/row-list.js';
export { runTogether, type Together, type TogetherOptions } from './api/run-together.js';
export { timeForParts, withTimeLimit } from './api/time-limit.js';
export type { MachineTime, Program } from './api/together-script.js';
export type { Token } from './api/token.js';
export { shownProperties } from './api/shown-properties.js';
export { systemdBoolean } from './api/unit-booleans.js';
export {
  machinesOfChange,
  runnableUnit,
  settleSeconds,
  unitChanges,
  unitCondition,
  waitSeconds,
} from './api/unit-change-schema.js';
export {
  type ChangeRequest,
  type UnitChange,
  type UnitCondition,
  UnitControl,
  type UnitOrder,
  type UnitPut,
  type UnitText,
  type PutOrder,
  type UnitVerb,
} from './api/unit-control.js';
export { UNIT_CHECK_SCRIPT } from './api/unit-check-script.js';
export { unitFileHash } from './api/unit-file.js';
export { type UnitFileEntry, type UnitFileOptions, UnitFiles, type UnitFileText } from './api/unit-files.js';
export { type InspectedUnit, inspectUnit, type InspectOptions } from './api/unit-inspection.js';
export { machinesOfUnit } from './api/unit-machines.js';
export { isWorkUnit } from './api/work-unit.js';
export { isGlobalUnit, machinesMeeting, meetsRequirements, requirementsOf } from './api/unit-requirements.js';
export type { UnreachableHost, Warn, WarningFacts } from './api/warn.js';
