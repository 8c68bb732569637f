import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';

/**
 * A server on 127.0.0.1 in a process of its own that is frozen: the system accepts connections, nothing answers.
 * @param backlog how many connections the system accepts; Linux accepts one more
 * @returns its port
 */
export async function startFrozenServer(t: ExecutionContext, backlog = 511): Promise<number> {
  const source = `
    const server = require('node:net').createServer();
    server.listen({ port: 0, host: '127.0.0.1', backlog: ${backlog} }, () => process.stdout.write(String(server.address().port)));`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGSTOP');
  return Number(port.toString());
}
