// The names of attributes: those of OpenTelemetry's semantic conventions 1.37.0, and our own, which begin with `fleet_manager.`.

/** Given to the collector, which can translate between versions. */
export const SCHEMA_URL = 'https://opentelemetry.io/schemas/1.37.0';

export const ATTRIBUTES = {
  messagingSystem: 'messaging.system',
  messagingOperation: 'messaging.operation.name',
  messagingOperationType: 'messaging.operation.type',
  messagingDestination: 'messaging.destination.name',
  messageId: 'messaging.message.id',
  errorType: 'error.type',
  serverAddress: 'server.address',
  serverPort: 'server.port',
  httpMethod: 'http.request.method',
  httpRoute: 'http.route',
  httpStatus: 'http.response.status_code',
  serviceName: 'service.name',
  serviceVersion: 'service.version',
  serviceInstance: 'service.instance.id',
  action: 'fleet_manager.action',
  attempt: 'fleet_manager.attempt',
  caller: 'fleet_manager.caller',
  /** The hash of its token, as in the log. */
  cluster: 'fleet_manager.cluster',
  door: 'fleet_manager.door',
  /** `completed`, `released`, `unanswered`, or the error code. */
  outcome: 'fleet_manager.outcome',
  /** The kind of server that is called. */
  upstream: 'fleet_manager.upstream',
} as const;
