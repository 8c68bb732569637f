import type { Machine, Unit, UnitState } from '../api/fleet-transport.js';

type State = 'inactive' | 'loaded' | 'launched';

/** What is known of a node; null where it could not be read, with the reason among the errors. */
export interface NodeInfo {
  docker_disk_space_percent: number | null;
  coreos_version: string | null;
  docker_version: string | null;
  errors: string[];
  disk: { size_mb: number; used_mb: number; available_mb: number; used_percent: number } | null;
  os: { id: string | null; version: string | null; name: string | null } | null;
  docker: { client_version: string | null; server_version: string | null } | null;
  load: number[] | null;
  memory: { total_kb: number; available_kb: number | null } | null;
  uptime_seconds: number | null;
}

/** The service's own actions: what each takes and gives, as the catalogue says; a test holds the two against each other. */
export interface KnownActions {
  list_machines: { parameters: { metadata?: Record<string, string> }; result: Machine[] };
  list_units: {
    parameters: { name?: string; desired_state?: State; current_state?: State; machine_id?: string };
    result: Unit[];
  };
  list_unit_states: { parameters: { unit_name?: string; machine_id?: string }; result: UnitState[] };
  unit_logs: {
    parameters: { unit_name: string; lines?: number; since?: string; until?: string; machine_id?: string };
    result: string;
  };
  node_info: { parameters: { nodes?: (string | null)[] }; result: Record<string, NodeInfo> };
  restart_unit: { parameters: { unit_name: string; wait_seconds?: number }; result: string };
}

/** Those of them that change nothing. */
export const OWN_READS: ReadonlySet<string> = new Set<keyof KnownActions>([
  'list_machines',
  'list_units',
  'list_unit_states',
  'unit_logs',
  'node_info',
]);
