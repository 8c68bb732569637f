import { refuseSecretsIn } from './planted-secrets.js';

/** One number of a scrape. */
export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** What a scrape shows. */
export class Scrape {
  readonly text: string;
  readonly samples: readonly Sample[];
  /** The types of the metrics, by name. */
  readonly types: ReadonlyMap<string, string>;

  constructor(text: string) {
    this.text = text;
    const lines = text.split('\n').filter((line) => line !== '');
    this.types = new Map(
      lines.flatMap((line) => {
        const [, name = '', type = ''] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
        return name === '' ? [] : [[name, type] as const];
      }),
    );
    this.samples = lines.filter((line) => !line.startsWith('#')).map(sampleOf);
  }

  /** The samples of a metric that have these labels. */
  of(name: string, labels: Readonly<Record<string, string>> = {}): Sample[] {
    return this.samples.filter(
      (each) =>
        each.name === name && Object.entries(labels).every(([label, value]) => each.labels[label] === value),
    );
  }

  /** Their sum; 0 without any. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.of(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** The names of the labels of a metric, in alphabetical order; undefined: there is no such metric. */
  labelsOf(name: string): string[] | undefined {
    const found = this.of(name);
    if (found.length === 0) return undefined;
    return [...new Set(found.flatMap(({ labels }) => Object.keys(labels)))].toSorted();
  }
}

export async function scrape(url: string | undefined, token?: string): Promise<Scrape> {
  const headers = new Headers(token === undefined ? {} : { authorization: `Bearer ${token}` });
  const response = await fetch(String(url), { headers });
  if (response.status !== 200) throw new Error(`HTTP status ${response.status}: ${await response.text()}`);
  const text = await response.text();
  refuseSecretsIn(text, 'the metrics');
  return new Scrape(text);
}

function sampleOf(line: string): Sample {
  const [, name = '', labels = '', value = ''] = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
  if (name === '') throw new Error(`no line of a scrape: ${line}`);
  const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
  return {
    name,
    labels: Object.fromEntries(pairs.map(([, label = '', text = '']) => [label, text])),
    value: Number(value),
  };
}
