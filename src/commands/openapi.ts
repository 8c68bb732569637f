import { describeActions } from '../composition.js';
import { openApiDocument } from '../gateway/openapi/document.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import { print } from './output.js';

/** Prints the OpenAPI document that the HTTP gateway of this configuration serves. */
export async function openApi(source: ConfigurationSource): Promise<number> {
  const { plugins, environment, watchdogSeconds, http, metrics } = readConfiguration(source);
  const actions = (await describeActions({ plugins, environment, watchdogSeconds })).describe();
  const hasMetrics = metrics?.port === 'gateway';
  const document = openApiDocument({
    actions,
    tokens: {
      ofCallers: http?.token !== undefined || http?.tokensFile !== undefined,
      ofMetrics: hasMetrics && metrics.token !== undefined,
    },
    hasMetrics,
  });
  print(`${JSON.stringify(document, null, 2)}\n`);
  return 0;
}
