import type { ActionDescription } from '../../core/action-description.js';
import { REPLY_DETAILS_SCHEMA } from '../../core/reply-schema.js';
import { packageVersion } from '../../lib/package-version.js';
import { PROBLEM_TYPE } from '../problem.js';
import { actionOperation, HEADERS, PARAMETERS } from './action-operation.js';
import { ERROR_SCHEMAS, errorResponses } from './error-responses.js';
import { CALLER_SCHEME, METRICS_SCHEME, type Part, type Tokens } from './parts.js';
import {
  catalogueOperation,
  DESCRIPTION_SCHEMA,
  documentOperation,
  HEALTH_PATHS,
  metricsOperation,
} from './service-operations.js';

// OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.1.html

export interface OpenApiOptions {
  actions: readonly ActionDescription[];
  tokens: Tokens;
  /** Whether the metrics are on the port of the gateway. */
  hasMetrics: boolean;
}

/** Describes the HTTP API of a service that serves these actions, as an OpenAPI document. */
export function openApiDocument({ actions, tokens, hasMetrics }: OpenApiOptions): Part {
  const schemes = securitySchemes(tokens);
  return {
    openapi: '3.1.1',
    info: INFO,
    servers: [{ url: '/', description: 'Where this document comes from.' }],
    tags: TAGS,
    ...(tokens.ofCallers && { security: [{ [CALLER_SCHEME]: [] }] }),
    paths: {
      ...Object.fromEntries(
        actions.map((action) => [`/v1/actions/${action.name}`, { post: actionOperation(action, tokens) }]),
      ),
      '/v1/actions': { get: catalogueOperation(tokens) },
      '/openapi.json': { get: documentOperation(tokens) },
      ...HEALTH_PATHS,
      ...(hasMetrics && { '/metrics': { get: metricsOperation(tokens) } }),
    },
    components: {
      schemas: {
        ...Object.fromEntries(
          actions.flatMap(({ name, parameters, result }) => [
            [`${name}_parameters`, parameters],
            [`${name}_result`, result],
          ]),
        ),
        ...ERROR_SCHEMAS,
        ReplyDetails: REPLY_DETAILS_SCHEMA,
        ActionDescription: DESCRIPTION_SCHEMA,
      },
      parameters: PARAMETERS,
      headers: HEADERS,
      responses: errorResponses(),
      ...(Object.keys(schemes).length > 0 && { securitySchemes: schemes }),
    },
  };
}

const INFO: Part = {
  title: 'fleet-manager',
  version: packageVersion(),
  summary: 'Runs actions against CoreOS fleet clusters.',
  description:
    'Every call is a request to the queue of the service, as over RabbitMQ. The response is the envelope of the reply. ' +
    `With \`accept: ${PROBLEM_TYPE}\` errors are problem details (RFC 9457).`,
  license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
};

const TAGS: readonly Part[] = [
  { name: 'read', description: 'Actions that change nothing.' },
  { name: 'change', description: 'Actions that change a cluster.' },
  { name: 'service', description: 'The service itself.' },
];

function securitySchemes({ ofCallers, ofMetrics }: Tokens): Part {
  const bearer = (description: string) => ({ type: 'http', scheme: 'bearer', description });
  return {
    ...(ofCallers && { [CALLER_SCHEME]: bearer('HTTP_TOKEN, or a token of HTTP_TOKENS_FILE.') }),
    ...(ofMetrics && { [METRICS_SCHEME]: bearer('METRICS_TOKEN.') }),
  };
}
