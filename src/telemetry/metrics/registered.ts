import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Distribution } from './distribution.js';

type Labels<Name extends string> = Record<Name, string>;

/** A name and what it means, for people. */
interface Described<Name extends string> {
  name: string;
  help: string;
  labels: readonly Name[];
}

/** Puts a number under its labels; without labels, the only one. */
type Put<Name extends string, Value> = (labels: Labels<Name>, value: Value) => void;

/** Metrics in a registry of prom-client whose numbers are counted elsewhere, and are collected for each scrape. */
export class Registered {
  readonly #registers: [Registry];

  constructor(registry: Registry) {
    this.#registers = [registry];
  }

  /** @param collect puts the numbers of now; they never fall */
  counter<Name extends string>(
    { name, help, labels }: Described<Name>,
    collect: (put: Put<Name, number>) => void,
  ): void {
    void new Counter({
      name,
      help,
      labelNames: labels,
      registers: this.#registers,
      collect() {
        this.reset();
        collect((under, value) => this.inc(under, value));
      },
    });
  }

  /** @param collect puts the numbers of now; with labels it may leave out what is not known now */
  gauge<Name extends string>(
    { name, help, labels }: Described<Name>,
    collect: (put: Put<Name, number>) => void | Promise<void>,
  ): void {
    void new Gauge({
      name,
      help,
      labelNames: labels,
      registers: this.#registers,
      async collect() {
        this.reset();
        await collect((under, value) => this.set(under, value));
      },
    });
  }

  histogram<Name extends string>(
    { name, help, labels }: Described<Name>,
    collect: (put: Put<Name, Distribution>) => void,
  ): void {
    void new Collected({ name, help, labelNames: labels, registers: this.#registers }, collect);
  }
}

interface Sample {
  metricName: string;
  labels: Record<string, string | number>;
  sharedLabels: Record<string, string>;
  value: number;
}

/** A histogram that is made of distributions. */
class Collected<Name extends string> extends Histogram<Name> {
  readonly #collect: (put: Put<Name, Distribution>) => void;
  readonly #described: { name: string; help: string };

  constructor(
    options: { name: string; help: string; labelNames: readonly Name[]; registers: [Registry] },
    collect: (put: Put<Name, Distribution>) => void,
  ) {
    super(options);
    this.#collect = collect;
    this.#described = { name: options.name, help: options.help };
  }

  /** The registry of prom-client 15 asks this; its types do not have it. */
  async getForPromString(): Promise<object> {
    const values: Sample[] = [];
    this.#collect((labels, distribution) =>
      values.push(...samplesOf(this.#described.name, labels, distribution)),
    );
    return { ...this.#described, type: 'histogram', aggregator: 'sum', values };
  }
}

function samplesOf(
  name: string,
  sharedLabels: Record<string, string>,
  { bounds, counts, sum }: Distribution,
): Sample[] {
  let upTo = 0;
  const buckets = [...bounds, '+Inf'].map((le, part) => {
    upTo += counts[part] ?? 0;
    return { metricName: `${name}_bucket`, labels: { le }, sharedLabels, value: upTo };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels: {}, sharedLabels, value: sum },
    { metricName: `${name}_count`, labels: {}, sharedLabels, value: upTo },
  ];
}
