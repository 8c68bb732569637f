import type { Registered } from './registered.js';
import { type ActionMetrics, type RequestMetrics } from './request-metrics.js';
import { COMPLETED, faultOf } from './outcome-codes.js';
import type { ObservedState, ServiceMetrics } from './service-metrics.js';
import type { UpstreamMetrics } from './upstream-metrics.js';

/**
 * The attributes of OpenTelemetry's semantic conventions 1.36 for messaging (status: Development), as its Prometheus exporters write
 * them (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/).
 */
const SYSTEM = { messaging_system: 'rabbitmq' } as const;

/** @param queue that of the requests */
export function registerRequestMetrics(to: Registered, requests: RequestMetrics, queue: string): void {
  const { actions } = requests;
  const labels = ['action'] as const;
  const count = (name: string, help: string, of: (action: ActionMetrics) => number) =>
    to.counter({ name, help, labels }, (put) => {
      for (const [action, counted] of actions) put({ action }, of(counted));
    });
  const now = (name: string, help: string, of: (action: ActionMetrics) => number) =>
    to.gauge({ name, help, labels }, (put) => {
      for (const [action, counted] of actions) put({ action }, of(counted));
    });
  const spread = (name: string, help: string, of: 'wait' | 'run' | 'reply' | 'attempts') =>
    to.histogram({ name, help, labels }, (put) => {
      for (const [action, counted] of actions) put({ action }, counted[of]);
    });
  to.counter(
    {
      name: 'fleet_manager_requests_total',
      help: 'Requests that ended, by what their callers got: completed, or an error code and whose fault it is.',
      labels: ['action', 'code', 'fault', 'encoding', 'door'],
    },
    (put) => {
      for (const [action, { outcomes }] of actions)
        for (const [code, encodings] of outcomes)
          for (const [encoding, doors] of encodings)
            for (const [door, times] of Object.entries(doors))
              if (times > 0) put({ action, code, fault: faultOf(code), encoding, door }, times);
    },
  );
  spread(
    'fleet_manager_request_wait_seconds',
    'Time that admitted requests waited for their turn, from when their callers began to wait.',
    'wait',
  );
  spread('fleet_manager_request_run_seconds', 'Time that actions ran.', 'run');
  spread(
    'fleet_manager_request_reply_seconds',
    'Time from the end of a request to the confirmation of its reply.',
    'reply',
  );
  spread(
    'fleet_manager_request_attempts',
    'How many workers have had a request, as far as is known, when one begins with it.',
    'attempts',
  );
  now('fleet_manager_requests_waiting', 'Admitted requests that wait for their turn.', (of) => of.waiting);
  now('fleet_manager_requests_in_flight', 'Requests that run.', (of) => of.running);
  count(
    'fleet_manager_requests_coalesced_total',
    'Reads that got the result of the run of another request.',
    (of) => of.coalesced,
  );
  count('fleet_manager_requests_denied_total', 'Requests that the policy refused.', (of) => of.denied);
  count(
    'fleet_manager_requests_released_total',
    'Requests that were given to any worker, as they had not begun here.',
    (of) => of.released,
  );
  count(
    'fleet_manager_requests_unanswered_total',
    'Requests whose reply could not be sent before the service stopped.',
    (of) => of.unanswered,
  );
  count(
    'fleet_manager_replies_dropped_total',
    'Replies that no caller got, or that none wanted.',
    (of) => of.dropped,
  );
  to.gauge(
    {
      name: 'fleet_manager_requests_without_response',
      help: 'Requests that wait or run for clusters that do not respond.',
      labels: [],
    },
    (put) => put({}, requests.withoutResponse),
  );
  to.counter(
    {
      name: 'fleet_manager_dead_letters_total',
      help: 'Messages that went to the error queue, by kind.',
      labels: ['kind'],
    },
    (put) => {
      for (const [kind, times] of Object.entries(requests.deadLetters)) put({ kind }, times);
    },
  );
  to.histogram(
    {
      name: 'messaging_process_duration_seconds',
      help: 'Time from the arrival of a request to the confirmation of its reply; error_type is its error code, or empty.',
      labels: ['messaging_system', 'messaging_operation_name', 'messaging_destination_name', 'error_type'],
    },
    (put) => {
      const given = { ...SYSTEM, messaging_operation_name: 'process', messaging_destination_name: queue };
      for (const [code, times] of requests.processed)
        put({ ...given, error_type: code === COMPLETED ? '' : code }, times);
    },
  );
}

export interface BrokerMetrics {
  counted: ServiceMetrics;
  state: ObservedState;
  version: string;
  queue: string;
}

export function registerBrokerMetrics(
  to: Registered,
  { counted, state, version, queue }: BrokerMetrics,
): void {
  const names = { requests: queue, suspects: `${queue}_suspects` } as const;
  const roles = ['requests', 'suspects'] as const;
  const flag = (name: string, help: string, of: () => boolean) =>
    to.gauge({ name, help, labels: [] }, (put) => put({}, of() ? 1 : 0));
  flag(
    'fleet_manager_ready',
    'Whether the service takes requests, and its gateway can send them (as /readyz).',
    () => state.now().ready,
  );
  flag('fleet_manager_broker_connected', 'Whether the service is connected to a broker.', () => {
    return state.now().connected;
  });
  flag('fleet_manager_broker_preferred', 'Whether that is a preferred broker.', () => state.now().preferred);
  flag(
    'fleet_manager_broker_blocked',
    'Whether the broker accepts no messages from the service.',
    () => state.now().blocked,
  );
  to.counter(
    {
      name: 'fleet_manager_broker_connections_total',
      help: 'Connections to brokers that were used; each after the first is a reconnect.',
      labels: [],
    },
    (put) => put({}, counted.connections),
  );
  to.counter(
    {
      name: 'messaging_client_consumed_messages_total',
      help: 'Messages that brokers delivered.',
      labels: ['messaging_system', 'messaging_operation_name', 'messaging_destination_name'],
    },
    (put) => {
      for (const role of roles)
        put(
          { ...SYSTEM, messaging_operation_name: 'deliver', messaging_destination_name: names[role] },
          counted.consumed[role],
        );
    },
  );
  to.counter(
    {
      name: 'fleet_manager_redeliveries_total',
      help: 'Messages among these that the broker had delivered before.',
      labels: ['queue', 'role'],
    },
    (put) => {
      for (const role of roles) put({ queue: names[role], role }, counted.redelivered[role]);
    },
  );
  to.gauge(
    {
      name: 'fleet_manager_messages_held',
      help: 'Messages that were delivered and are not acknowledged.',
      labels: [],
    },
    (put) => put({}, state.now().held),
  );
  to.gauge(
    {
      name: 'fleet_manager_queue_messages_ready',
      help: 'Messages that are ready in the queues of the service; left out while the broker does not tell.',
      labels: ['queue', 'role'],
    },
    async (put) => {
      for (const { messages, ...depth } of await state.depths()) put(depth, messages);
    },
  );
  to.gauge(
    {
      name: 'fleet_manager_build_info',
      help: 'Always 1; the labels say what runs.',
      labels: ['version', 'node_version'],
    },
    (put) => put({ version, node_version: process.version }, 1),
  );
}

export function registerUpstreamMetrics(to: Registered, { kinds }: UpstreamMetrics): void {
  to.histogram(
    {
      name: 'fleet_manager_upstream_call_seconds',
      help: 'Time that calls to other servers took, by kind of server and operation.',
      labels: ['kind', 'operation'],
    },
    (put) => {
      for (const [kind, operations] of kinds)
        for (const [operation, { seconds }] of operations) put({ kind, operation }, seconds);
    },
  );
  to.counter(
    {
      name: 'fleet_manager_upstream_calls_total',
      help: 'Calls to other servers that ended, by outcome: ok, failed, or stopped here before they had a result.',
      labels: ['kind', 'operation', 'outcome'],
    },
    (put) => {
      for (const [kind, operations] of kinds)
        for (const [operation, counted] of operations)
          for (const outcome of ['ok', 'failed', 'stopped'] as const)
            put({ kind, operation, outcome }, counted[outcome]);
    },
  );
  to.gauge(
    {
      name: 'fleet_manager_upstream_calls_in_flight',
      help: 'Calls to other servers that have not ended.',
      labels: ['kind', 'operation'],
    },
    (put) => {
      for (const [kind, operations] of kinds)
        for (const [operation, { inProgress }] of operations) put({ kind, operation }, inProgress);
    },
  );
}
