import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { startService } from '../src/composition.js';
import { clusterSettings, sshSettings } from '../src/sandbox/sandbox-settings.js';
import { startSandbox } from '../src/sandbox/sandbox.js';
import { embeddedBroker } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { logLines } from './support/log-lines.js';
import { namesIn } from './support/promql.js';
import { inRepository } from './support/repository.js';
import { type Scrape, scrape } from './support/scrape.js';
import { serving } from './support/settings.js';

// docs/operations/: what it names must be what a service exports that has served something.

const run = promisify(execFile);
const inFolder = (name: string) => inRepository(`docs/operations/${name}`);
const read = async (name: string) => readFile(inFolder(name), 'utf8');
/** Prometheus adds these. */
const TARGET_LABELS = ['job', 'instance'];

/** What a service shows after it has served requests, of which one was invalid and one was for a machine. */
async function exported(t: ExecutionContext): Promise<Scrape> {
  const sandbox = await startSandbox({ ssh: true });
  t.teardown(async () => sandbox.stop());
  const broker = embeddedBroker();
  const ssh = sshSettings(sandbox);
  const service = await startService({
    configuration: serving({ METRICS_PORT: '0', HTTP_PORT: '0', SHUTDOWN_GRACE_SECONDS: '0' }),
    clusters: clusterSettings(sandbox),
    ...(ssh && { ssh }),
    log: logLines().log,
    broker: { connect: broker.connect, brokers: async () => [{ url: broker.url }] },
  });
  t.teardown(async () => service.stop());
  await eventually('it is ready', () => service.notReady().length === 0);
  const [unit] = sandbox.cluster.units();
  for (const [action, parameters] of [
    ['list_units', {}],
    ['unit_logs', { unit_name: unit?.name }],
    ['nothing', {}],
  ] as const)
    await fetch(`${service.httpUrl}/v1/actions/${action}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ etcd_token: sandbox.token, action_parameters: parameters }),
    });
  const connection = await broker.open();
  t.teardown(async () => connection.close());
  (await connection.createChannel()).sendToQueue('fleet_manager', Buffer.from('not a request'));
  const { metricsUrl } = service;
  await eventually(
    'it is dead-lettered',
    async () => (await scrape(metricsUrl)).sum('fleet_manager_dead_letters_total') === 1,
  );
  // The first scrape tells nothing of the time between scrapes.
  return scrape(metricsUrl);
}

/** The name of the metric of a sample, without what a histogram adds. */
function metricOf(shown: Scrape, sample: string): string | undefined {
  return [sample, sample.replace(/_(bucket|sum|count)$/, '')].find((name) => shown.types.has(name));
}

/** What in an expression is not exported; it may group by the labels of any of its metrics. */
function problemsOf(shown: Scrape, expression: string): string[] {
  const { metrics, groupings } = namesIn(expression);
  const known = new Set(TARGET_LABELS);
  const problems: string[] = [];
  if (metrics.length === 0) problems.push('no metric');
  for (const { name, labels } of metrics) {
    const exports = shown.labelsOf(name);
    if (exports === undefined) problems.push(`no metric ${name}`);
    const all = [...(exports ?? []), ...TARGET_LABELS];
    for (const label of labels) if (!all.includes(label)) problems.push(`${name} has no label ${label}`);
    for (const label of all) known.add(label);
  }
  for (const label of groupings) if (!known.has(label)) problems.push(`no label ${label}`);
  return problems.map((problem) => `${problem}: ${expression}`);
}

/** The labels that the results of an expression have: those by which it groups, or those of its metrics. */
function labelsOfResult(shown: Scrape, expression: string): string[] {
  const { metrics } = namesIn(expression);
  const by = [...expression.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(/,\s*/));
  return [
    ...(by.length > 0 ? by : metrics.flatMap(({ name }) => shown.labelsOf(name) ?? [])),
    ...TARGET_LABELS,
  ];
}

test('the names in expressions are found', (t) => {
  t.deepEqual(
    namesIn(
      'sum by (a, b) (rate(x_total{c="d{e}",f!~"g"}[5m] offset 1h)) / on (h) group_left y > 0.5 or z * 0',
    ),
    {
      metrics: [
        { name: 'x_total', labels: ['c', 'f'] },
        { name: 'y', labels: [] },
        { name: 'z', labels: [] },
      ],
      groupings: ['a', 'b', 'h'],
    },
  );
});

test('docs/operations/ names the metrics and labels that a service exports, and no others', async (t) => {
  const shown = await exported(t);

  const documented = [...(await read('README.md')).matchAll(/^\| `(\w+)` \| (\w+) \|([^|]*)\|/gm)].map(
    ([, name = '', type = '', labels = '']) => ({
      name,
      type,
      labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label).toSorted(),
    }),
  );
  const own = [...shown.types].filter(([name]) => /^(fleet_manager|messaging)_/.test(name));
  const labelsOf = (name: string) => {
    const samples = shown.samples.filter((each) => metricOf(shown, each.name) === name);
    return [...new Set(samples.flatMap(({ labels }) => Object.keys(labels)))].filter((each) => each !== 'le');
  };
  t.deepEqual(
    documented.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    own
      .map(([name, type]) => ({ name, type, labels: labelsOf(name).toSorted() }))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  );

  const dashboard: { panels: { title: string; targets?: { expr: string; legendFormat: string }[] }[] } =
    JSON.parse(await read('fleet-manager.dashboard.json'));
  const targets = dashboard.panels.flatMap((panel) => panel.targets ?? []);
  t.true(targets.length > 30);
  t.deepEqual(
    targets.flatMap(({ expr }) => problemsOf(shown, expr)),
    [],
  );
  for (const { expr, legendFormat } of targets)
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
      t.true(labelsOfResult(shown, expr).includes(label), `${label}: ${expr}`);

  const rules = rulesIn(await read('fleet-manager.rules.yml'));
  t.true(rules.length > 10);
  t.deepEqual(
    rules.flatMap(({ expr }) => problemsOf(shown, expr)),
    [],
  );
  for (const { alert, expr, text } of rules)
    for (const [, label = ''] of text.matchAll(/\$labels\.(\w+)/g))
      t.true(labelsOfResult(shown, expr).includes(label), `${alert}: ${label}`);
});

/** The alerts of a file that is written as ours: promtool reads it as YAML. */
function rulesIn(file: string): { alert: string; expr: string; text: string }[] {
  return file
    .split(/^ {6}- alert: /m)
    .slice(1)
    .map((text) => {
      const [, line = '', block = ''] = /^ {8}expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)/m.exec(text) ?? [];
      return { alert: text.split('\n')[0] ?? '', expr: line || block, text };
    });
}

const PROMTOOL = '/usr/bin/promtool';
if (existsSync(PROMTOOL) || process.env.REQUIRE_SERVICES === '1')
  test('promtool accepts the alerts, their tests, and what a service exports', async (t) => {
    const { stdout } = await run(PROMTOOL, ['check', 'rules', inFolder('fleet-manager.rules.yml')]);
    t.regex(stdout, /SUCCESS: \d+ rules found/);
    await t.notThrowsAsync(run(PROMTOOL, ['test', 'rules', inFolder('fleet-manager.rules.test.yml')]));
    const lint = spawn(PROMTOOL, ['check', 'metrics'], { stdio: ['pipe', 'ignore', 'pipe'] });
    lint.stdin.end((await exported(t)).text);
    const lines = createInterface(lint.stderr);
    // It finds fault with some names of prom-client.
    for await (const line of lines) t.regex(line, /^nodejs_active_\w+_total non-counter metrics should not/);
  });
else
  process.stderr.write(
    `skipped: the check of alerts (${PROMTOOL} is not installed; see scripts/install-services)\n`,
  );
