import type { Machine, UnitOption } from '../api/fleet-transport.js';
import type { SandboxUnit } from './cluster.js';
import type { MachineCondition } from './simulated-machine.js';

const WEB_MACHINE = '4f8b02ce61d94a7f93e5b0d7a8c1264e';
const WORKER_MACHINE = '91d7c64ab8f34e05a2c96e1f70b35d18';
const DATA_MACHINE = 'c0a1f3d95b7e4d268f40a9716be2d583';

/** Three machines with loopback addresses. */
export const EXAMPLE_MACHINES: readonly Machine[] = [
  {
    id: WEB_MACHINE,
    primaryIP: '127.0.0.1',
    metadata: { region: 'eu-west', role: 'web' },
  },
  {
    id: WORKER_MACHINE,
    primaryIP: '127.0.0.2',
    metadata: { region: 'eu-west', role: 'worker' },
  },
  { id: DATA_MACHINE, primaryIP: '127.0.0.3', metadata: { region: 'eu-central', role: 'data', disk: 'ssd' } },
];

/** The conditions of the three machines: Docker is down on one, the disk of another is nearly full. */
export const EXAMPLE_CONDITIONS: ReadonlyMap<string, Partial<MachineCondition>> = new Map([
  [WEB_MACHINE, { dockerRuns: true, diskUsePercent: 47 }],
  [WORKER_MACHINE, { dockerRuns: false, diskUsePercent: 63 }],
  [DATA_MACHINE, { dockerRuns: true, diskUsePercent: 91 }],
]);

/** The units of a small web shop, with the states that an operator sees: failed, flapping, unscheduled, stopped. */
export const EXAMPLE_UNITS: readonly SandboxUnit[] = [
  // A template and its instances.
  { name: 'web@.service', options: container('Web front end %i', 'shop/web'), desiredState: 'inactive' },
  ...instances('web', 6, container('Web front end %i', 'shop/web')),
  { name: 'api@.service', options: container('API %i', 'shop/api'), desiredState: 'inactive' },
  ...instances('api', 4, container('API %i', 'shop/api')),
  ...instances(
    'worker',
    4,
    container('Job worker %i', 'shop/worker', { MachineMetadata: '"role=worker" "role=data"' }),
  ),
  {
    name: 'worker-queue.service',
    options: container('Job queue', 'rabbitmq:3', { MachineMetadata: 'role=worker' }),
  },

  // Databases, scheduled only to the machine with the disks.
  {
    name: 'postgres.service',
    options: container('Orders database', 'postgres:13', { MachineMetadata: '"role=data" "disk=ssd"' }),
  },
  { name: 'redis.service', options: container('Session cache', 'redis:6', { MachineID: DATA_MACHINE }) },
  {
    name: 'search.service',
    options: container('Product search', 'elasticsearch:7', { MachineMetadata: 'role=data' }),
  },

  // Global units.
  {
    name: 'node-exporter.service',
    options: container('Machine metrics', 'node-exporter', { Global: 'true' }),
  },
  { name: 'log-shipper.service', options: container('Ships the journal', 'log-shipper', { Global: 'true' }) },
  {
    name: 'web-cache.service',
    options: container('Front-end cache', 'varnish:6', { Global: 'true', MachineMetadata: 'role=web' }),
  },

  // Failing; fleet reports the first two as launched.
  { name: 'mailer.service', options: container('Sends mail', 'shop/mailer'), behaviour: 'fails-at-start' },
  {
    name: 'search-indexer.service',
    options: container('Feeds the search', 'shop/indexer'),
    behaviour: 'flaps',
  },
  {
    name: 'recommender.service',
    options: container('Needs a GPU, which no machine has', 'shop/recommender', {
      MachineMetadata: 'gpu=true',
    }),
  },

  // Stopped, or loaded and waiting for its timer.
  { name: 'legacy-ftp.service', options: container('Old FTP upload', 'vsftpd'), desiredState: 'inactive' },
  {
    name: 'maintenance-page.service',
    options: container('Shown in outages', 'nginx:1'),
    desiredState: 'loaded',
  },
  { name: 'postgres-backup.service', options: script('Backs up orders', 'backup'), desiredState: 'loaded' },
  { name: 'postgres-backup.timer', options: every('03:15', 'postgres-backup.service') },
  { name: 'sitemap.service', options: script('Writes the sitemap', 'sitemap'), desiredState: 'loaded' },
  { name: 'sitemap.timer', options: every('hourly', 'sitemap.service') },

  // Other types, and valid names with special characters.
  {
    name: 'registry.socket',
    options: [option('Unit', 'Description', 'Image registry'), option('Socket', 'ListenStream', '5000')],
  },
  { name: 'registry.service', options: container('Image registry', 'registry:2') },
  {
    name: 'config-reload.path',
    options: [
      option('Path', 'PathChanged', '/etc/shop.conf'),
      option('Path', 'Unit', 'config-reload.service'),
    ],
  },
  { name: 'config-reload.service', options: script('Reloads settings', 'reload'), desiredState: 'loaded' },
  { name: 'shop.target', options: [option('Unit', 'Description', 'All of the shop')] },
  { name: '-.mount', options: mount('/dev/disk/by-label/ROOT', '/') },
  { name: 'srv-media.mount', options: mount('nas:/media', '/srv/media') },
  { name: 'srv-media\\x2darchive.mount', options: mount('nas:/archive', '/srv/media-archive') },
  { name: 'srv-media.automount', options: [option('Automount', 'Where', '/srv/media')] },
  { name: 'tunnel@db:5432.service', options: script('Tunnel to %i', 'tunnel') },
];

function option(section: string, name: string, value: string): UnitOption {
  return { section, name, value };
}

function instances(prefix: string, count: number, options: UnitOption[]): SandboxUnit[] {
  return Array.from({ length: count }, (_, index) => ({ name: `${prefix}@${index + 1}.service`, options }));
}

function container(description: string, image: string, fleet: Record<string, string> = {}): UnitOption[] {
  return [
    option('Unit', 'Description', description),
    option('Unit', 'After', 'docker.service'),
    option('Unit', 'Requires', 'docker.service'),
    // An empty value clears earlier settings; fleet's JSON leaves the key out.
    option('Service', 'Environment', ''),
    option('Service', 'TimeoutStartSec', '0'),
    option('Service', 'ExecStartPre', '-/usr/bin/docker rm -f %p-%i'),
    option('Service', 'ExecStart', `/usr/bin/docker run --rm --name %p-%i ${image}`),
    option('Service', 'ExecStop', '/usr/bin/docker stop %p-%i'),
    option('Service', 'Restart', 'always'),
    ...Object.entries(fleet).map(([name, value]) => option('X-Fleet', name, value)),
  ];
}

function script(description: string, name: string): UnitOption[] {
  return [
    option('Unit', 'Description', description),
    option('Service', 'Type', 'simple'),
    option('Service', 'ExecStart', `/opt/shop/bin/${name} %i`),
  ];
}

function every(when: string, unit: string): UnitOption[] {
  return [option('Timer', 'OnCalendar', when), option('Timer', 'Unit', unit)];
}

function mount(what: string, where: string): UnitOption[] {
  return [option('Mount', 'What', what), option('Mount', 'Where', where)];
}
