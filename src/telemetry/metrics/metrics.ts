import { collectDefaultMetrics, Registry } from 'prom-client';
import type { CallEventBus } from '../../core/call-events.js';
import type { Clock } from '../../lib/clock.js';
import type { WatchUpstream } from '../../lib/upstream.js';
import { registerBrokerMetrics, registerRequestMetrics, registerUpstreamMetrics } from './exported.js';
import { RequestMetrics } from './request-metrics.js';
import { type ObservedState, ServiceMetrics } from './service-metrics.js';
import { Registered } from './registered.js';
import { UpstreamMetrics } from './upstream-metrics.js';

export interface MetricsOptions {
  /** The version of this package. */
  version: string;
  /** The queue of requests. */
  queue: string;
  clock: Clock;
}

/** What is observed. */
export interface ObservedService extends ObservedState {
  events: CallEventBus;
  /** The names of the actions that are served. */
  actions: readonly string[];
}

/**
 * The metrics of the service, in Prometheus's text format. Everything is counted in plain numbers; prom-client gets them when somebody
 * asks. docs/operations/README.md lists the names.
 */
export class Metrics {
  readonly #options: MetricsOptions;
  readonly #registry = new Registry();
  readonly #registered = new Registered(this.#registry);
  readonly #upstream: UpstreamMetrics;
  readonly service = new ServiceMetrics();
  #scrape: Promise<string> | undefined;

  constructor(options: MetricsOptions) {
    this.#options = options;
    this.#upstream = new UpstreamMetrics(options.clock);
    registerUpstreamMetrics(this.#registered, this.#upstream);
    collectDefaultMetrics({ register: this.#registry });
  }

  /** Counts calls to other servers. */
  get watchUpstream(): WatchUpstream {
    return this.#upstream.watch;
  }

  /** Counts what happens in the service from now on. Call it once. */
  observe({ events, actions, ...state }: ObservedService): void {
    registerRequestMetrics(this.#registered, new RequestMetrics(events, actions), this.#options.queue);
    registerBrokerMetrics(this.#registered, { ...this.#options, counted: this.service, state });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All metrics now. Those who ask meanwhile get the same text. */
  async text(): Promise<string> {
    this.#scrape ??= this.#registry.metrics().finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }
}
