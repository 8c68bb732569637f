import { request } from 'node:http';
import { reasonOf } from '../lib/errors.js';
import { fieldsOf } from '../lib/fields-of.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { print, printError } from './output.js';

/** Less than the time that the image gives a check. */
const LIMIT_MS = 5_000;
/** Far more than the reasons why a service is not ready. */
const MAX_BODY = 100_000;
const HEALTHY = 0;
/** Docker reserves 2 and higher codes. */
const UNHEALTHY = 1;

export interface HealthOptions {
  /** Whether the service must take requests; else it is enough that it responds. */
  ready?: boolean;
  /** How long it has to respond, in milliseconds; 5 s by default. */
  limitMs?: number;
}

interface Health {
  healthy: boolean;
  /** For people. */
  text: string;
}

/**
 * Asks the service on this machine for its health, as a container runtime does that has no curl in the container.
 * @returns the exit code: 0 when it is healthy, else 1
 */
export async function health(options: HealthOptions, source: ConfigurationSource): Promise<number> {
  const { ready = false, limitMs = LIMIT_MS } = options;
  const { healthy, text } = await healthOf(source, { ready, limitMs });
  (healthy ? print : printError)(`${text}\n`);
  return healthy ? HEALTHY : UNHEALTHY;
}

async function healthOf(
  source: ConfigurationSource,
  { ready, limitMs }: Required<HealthOptions>,
): Promise<Health> {
  const unhealthy = (text: string): Health => ({ healthy: false, text });
  try {
    const { http } = readConfiguration(source);
    if (http === undefined || http.port === 0) return withoutGateway(ready);
    const { status, body } = await answerOf({ ...http, path: ready ? '/readyz' : '/livez', limitMs });
    if (status === 200) return { healthy: true, text: ready ? 'ready' : 'alive' };
    return unhealthy(ready ? notReady(body) : `the gateway answers with status ${status}`);
  } catch (error) {
    if (error instanceof ConfigurationError) return unhealthy(error.message);
    return unhealthy(`the gateway does not respond: ${reasonOf(error)}`);
  }
}

/** A blocked process is ended by its watchdog, so a process that exists is alive. */
function withoutGateway(ready: boolean): Health {
  const why = 'the gateway has no port that is known here (HTTP_PORT is off or 0)';
  return ready
    ? { healthy: false, text: `${why}, so only the log says whether the service is ready: set HTTP_PORT` }
    : { healthy: true, text: `not asked: ${why}; the watchdog ends a process that is blocked` };
}

async function answerOf({
  host,
  port,
  path,
  limitMs,
}: {
  host: string;
  port: number;
  path: string;
  limitMs: number;
}): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(limitMs);
    const late = () => reject(new Error(`no response within ${limitMs / 1_000} s`));
    signal.addEventListener('abort', late);
    const sent = request({ host, port, path, signal }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
        if (body.length > MAX_BODY)
          response.destroy(new Error(`its response has more than ${MAX_BODY} characters`));
      });
      response.once('end', () => resolve({ status: response.statusCode, body }));
      response.once('error', reject);
    });
    sent.once('error', reject);
    // Without a listener Node.js would end, and say nothing.
    sent.once('upgrade', (_response, socket) => {
      socket.destroy();
      reject(new Error('it wants another protocol'));
    });
    sent.end();
  });
}

function notReady(body: string): string {
  const { reasons } = fieldsOf(parsed(body));
  return Array.isArray(reasons) ? `not ready: ${reasons.join('; ')}` : 'not ready: is it a fleet-manager?';
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
