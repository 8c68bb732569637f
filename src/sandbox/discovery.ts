import { createHash } from 'node:crypto';
import type { SandboxResponse, SandboxRequest } from './loopback-service.js';

const KEY_ROOT = '/discovery';
const ETCD_INDEX = 10733;

/**
 * Answers `GET /TOKEN` as etcd's v2 API does below a discovery directory: members in random order, without `_config`
 * (etcd hides keys that begin with `_`), and without `nodes` when there are none.
 * @param membersOf the values registered under a token, undefined when the token is unknown
 */
export function respondAsDiscovery(
  membersOf: (token: string) => readonly string[] | undefined,
  { method, path }: SandboxRequest,
): SandboxResponse {
  if (method !== 'GET') return { status: 405, headers: { allow: 'GET' } };
  const [token = '', ...below] = path.split('/').filter((segment) => segment !== '');
  const members = membersOf(token);
  const key = [KEY_ROOT, token, ...below].filter((segment) => segment !== '').join('/');
  if (members !== undefined && below.length === 0) return found(directory(key, members));
  if (members !== undefined && below.join('/') === '_config/size')
    return found({ key, value: String(members.length), modifiedIndex: 1, createdIndex: 1 });
  return json({ errorCode: 100, message: 'Key not found', cause: key, index: ETCD_INDEX }, 404);
}

/** The response of an etcd with an internal failure. */
export function discoveryFailure(status: number): SandboxResponse {
  return json({ errorCode: 300, message: 'Raft Internal Error', index: ETCD_INDEX }, status);
}

function directory(key: string, members: readonly string[]) {
  const nodes = members.map((value, index) => ({
    key: `${key}/${memberId(index, value)}`,
    value,
    modifiedIndex: index + 2,
    createdIndex: index + 2,
  }));
  return {
    key,
    dir: true,
    ...(nodes.length > 0 ? { nodes: shuffled(nodes) } : {}),
    modifiedIndex: 1,
    createdIndex: 1,
  };
}

/** etcd members register under a 64-bit id in hexadecimal. */
function memberId(index: number, value: string): string {
  return createHash('sha1').update(`${index} ${value}`).digest('hex').slice(0, 16);
}

function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

function found(node: object): SandboxResponse {
  return json({ action: 'get', node }, 200);
}

function json(value: unknown, status: number): SandboxResponse {
  return { status, headers: { 'x-etcd-index': String(ETCD_INDEX) }, body: `${JSON.stringify(value)}\n` };
}
