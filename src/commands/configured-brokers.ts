import { componentsOf } from '../composition.js';
import { reasonOf } from '../lib/errors.js';
import type { BrokerAddress } from '../rpc/broker-address.js';
import type { Configuration } from '../settings/settings.js';
import { Log } from '../telemetry/log.js';
import { UsageError } from './usage-error.js';

/**
 * The brokers that the service uses: those of the Manager of an OpenAperture installation, or else of `AMQP_URL`.
 * @param withoutAny what to do when none is configured, for people
 * @throws UsageError when none is configured; Error when the Manager does not name them
 */
export async function configuredBrokers(
  {
    amqp,
    openaperture,
    clusters,
    ssh,
    hostname,
  }: Pick<Configuration, 'amqp' | 'openaperture' | 'clusters' | 'ssh' | 'hostname'>,
  withoutAny: string,
): Promise<readonly BrokerAddress[]> {
  if (openaperture === undefined) {
    if (amqp !== undefined) return amqp.urls.map((url) => ({ url }));
    throw new UsageError(withoutAny);
  }
  const log = Log.create({ level: 'error', format: 'text' });
  const components = componentsOf({ clusters, ssh, openaperture, hostname, log });
  try {
    return (await (await components.installation())?.brokers()) ?? [];
  } catch (error) {
    throw new Error(`the Manager gives no brokers: ${reasonOf(error)}`, { cause: error });
  } finally {
    await components.close();
  }
}
