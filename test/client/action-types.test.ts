import test from 'ava';
import { describeActions } from '../../src/composition.js';
import { readConfiguration } from '../../src/settings/read-configuration.js';
import { KNOWN_READS } from '../../src/client/action-types.js';
import { mayRunTwice } from '../../src/client/route.js';
import { typeOfSchema } from '../../src/commands/schema-type.js';
import { compilerOutput } from '../support/compiler-output.js';
import { inRepository } from '../support/repository.js';

/** The compiler's output for lines that use the client's types. */
async function compiled(lines: readonly string[]): Promise<string> {
  return compilerOutput([
    `import type { KnownActions } from '${inRepository('src/client/client.js')}';`,
    `import type { Machine, Unit, UnitState } from '${inRepository('src/plugin.js')}';`,
    ...lines,
  ]);
}

/** Types that users of the client rely on. */
const PROMISED = `
  type State = 'inactive' | 'loaded' | 'launched';
  interface NodeInfo {
    docker_disk_space_percent: number | null;
    coreos_version: string | null;
    docker_version: string | null;
    errors: string[];
    disk: {
      size_mb: number | null;
      used_mb: number | null;
      available_mb: number | null;
      used_percent: number | null;
    } | null;
    os: { id: string | null; version: string | null; name: string | null } | null;
    docker: { client_version: string | null; server_version: string | null } | null;
    load: number[] | null;
    memory: { total_kb: number; available_kb: number | null } | null;
    uptime_seconds: number | null;
    podman: { version: string | null; answers: boolean } | null;
    os_image: {
      updated_by: 'rpm-ostree' | 'update_engine';
      booted_version: string | null;
      staged: boolean;
      staged_version: string | null;
    } | null;
    failed_units: { count: number; names: string[] } | null;
    clock: { offset_ms: number; uncertainty_ms: number } | null;
  }
  interface Finding {
    severity: 'error' | 'warning';
    kind: string;
    subject: string;
    message: string;
    advice: string;
    evidence: Record<string, unknown>;
  }
  interface Description {
    name: string;
    summary: string;
    target: 'cluster' | 'optional' | 'none';
    effect: 'read' | 'change';
    redelivery: 'run-again' | 'refuse';
    timeout_ms: number;
    parameters?: Record<string, unknown>;
    result?: Record<string, unknown>;
  }
  interface Promised {
    check_cluster: { parameters: Record<string, never>; result: Finding[] };
    describe_actions: {
      parameters: { name?: string; brief?: boolean };
      result: Description[];
    };
    list_machines: { parameters: { metadata?: Record<string, string> }; result: Machine[] };
    list_units: {
      parameters: { name?: string; desired_state?: State; current_state?: State; machine_id?: string; all?: boolean };
      result: Unit[];
    };
    list_unit_states: { parameters: { unit_name?: string; machine_id?: string; all?: boolean }; result: UnitState[] };
    unit_logs: {
      parameters: { unit_name: string; lines?: number; since?: string; until?: string; machine_id?: string };
      result: string;
    };
    node_info: { parameters: { nodes?: (string | null)[] }; result: Record<string, NodeInfo> };
    restart_unit: {
      parameters: {
        unit_name: string;
        wait_seconds?: number;
        machine_ids?: string[];
        settle_seconds?: number;
        format?: 'text' | 'structured';
      };
      result: string | Record<string, unknown>;
    };
  }
  export const promised: Same<Pick<KnownActions, keyof Promised>, Promised> = true;`;

const catalogue = describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }));

test("the client's types of the service's own actions match the catalogue", async (t) => {
  const actions = (await catalogue).describe();
  const lines = actions.flatMap(({ name, ...schemas }) =>
    (['parameters', 'result'] as const).map(
      (part) =>
        `export const ${name}_${part}: Same<KnownActions['${name}']['${part}'], ${typeOfSchema(schemas[part])}> = true;`,
    ),
  );
  const names = actions.map(({ name }) => `'${name}'`);
  lines.push(`export const names: Same<keyof KnownActions, ${names.join(' | ')}> = true;`, PROMISED);
  t.is(await compiled(lines), '');
});

test("the client's reads match the catalogue, and it resends no other action without being asked", async (t) => {
  const actions = (await catalogue).describe();
  t.deepEqual(
    [...KNOWN_READS].toSorted(),
    actions.filter(({ effect }) => effect === 'read').map(({ name }) => name),
  );
  for (const { name, effect } of actions) t.is(mayRunTwice(name, {}), effect === 'read', name);
});

test('a value that its schema does not describe has the type unknown', (t) => {
  t.is(typeOfSchema({ format: 'duration' }), 'unknown');
  t.is(typeOfSchema({ type: 'array', items: {} }), 'unknown[]');
  t.is(typeOfSchema({ type: 'object', properties: {} }), 'Record<string, never>');
  t.is(
    typeOfSchema({ type: 'array', prefixItems: [{ type: 'string' }, { type: 'number' }] }),
    '[string, number]',
  );
  const odd = { type: 'string', description: 'No */ end.' };
  t.is(
    typeOfSchema({ type: 'object', properties: { 'a-b': odd }, required: ['a-b'] }),
    '{\n  /** No *\\/ end. */\n  "a-b": string;\n}',
  );
});

test('any difference is found, however small', async (t) => {
  const parameters = "KnownActions['restart_unit']['parameters']";
  for (const type of [
    '{ unit_name: string; wait_seconds: number }',
    '{ unit_name?: string; wait_seconds?: number }',
    '{ unit_name: string; wait_seconds?: string }',
    '{ unit_name: string }',
    '{ unit_name: string; wait_seconds?: number; more?: string }',
  ]) {
    t.regex(await compiled([`export const differs: Same<${parameters}, ${type}> = true;`]), /TS2322/);
  }
});
