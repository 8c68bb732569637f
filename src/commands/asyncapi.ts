import { describeActions } from '../composition.js';
import { asyncApiDocument } from '../rpc/asyncapi/document.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { print } from './output.js';

/** Prints the AsyncAPI document of the queue of this configuration. */
export async function asyncApi(source: ConfigurationSource): Promise<number> {
  const { plugins, environment, watchdogSeconds, rpc } = readConfiguration(source);
  const actions = (await describeActions({ plugins, environment, watchdogSeconds })).describe();
  print(`${JSON.stringify(asyncApiDocument({ actions, queue: rpc.queue }), null, 2)}\n`);
  return 0;
}
