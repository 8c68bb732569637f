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
export type { Cluster } from './api/cluster.js';
export { EtcdResolver } from './api/etcd-resolver.js';
export {
  type ChangeOptions,
  type ClusterHostsReport,
  DESIRED_STATES,
  type DesiredState,
  FleetTransport,
  type ListOptions,
  type StateListOptions,
  type UnitReadOptions,
  type Machine,
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
export { mapLimited } from './api/map-limited.js';
export { unitsWithoutState, type UnitWithoutState } from './api/missing-states.js';
export { pendingHosts } from './api/pending-change.js';
export { type RemoteOutput, type RemoteRunOptions, RemoteShell } from './api/remote-shell.js';
export type { RowList } from './api/row-list.js';
export { timeForParts, withTimeLimit } from './api/time-limit.js';
export type { Token } from './api/token.js';
export { systemdBoolean } from './api/unit-booleans.js';
export { unitFileHash } from './api/unit-file.js';
export { isGlobalUnit, machinesMeeting, meetsRequirements, requirementsOf } from './api/unit-requirements.js';
