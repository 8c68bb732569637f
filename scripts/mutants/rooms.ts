/** A room whose promises are held by tests. */
export interface Room {
  /** The folder with its sources. */
  sources: string;
  /** How the paths of the test files begin that hold it: those of its folder, and those of what is made with it. */
  tests: readonly string[];
}

export const ROOMS: Readonly<Record<string, Room>> = {
  client: {
    sources: 'src/client',
    tests: ['test/client/', 'test/commands/call.', 'test/openaperture/record-caller.'],
  },
  ssh: {
    sources: 'src/ssh',
    tests: [
      'test/ssh/',
      'test/network/connection-policy.',
      'test/plugins/node-info.',
      'test/plugins/unit-logs',
      'test/commands/check-machines.',
      'test/hostile-text.',
    ],
  },
  clusters: {
    sources: 'src/clusters',
    tests: ['test/clusters/', 'test/network/', 'test/plugins/list-'],
  },
  restart: {
    sources: 'plugins/restart-unit',
    tests: ['test/plugins/restart-unit', 'test/plugins/informed-hosts.', 'test/plugins/keyed-mutex.'],
  },
  rpc: {
    sources: 'src/rpc',
    tests: ['test/rpc/', 'test/client/amqp-route.', 'test/shutdown.'],
  },
  core: {
    sources: 'src/core',
    tests: [
      'test/core/',
      'test/rpc/rpc-server.',
      'test/service.',
      'test/shutdown.',
      'test/telemetry/request-log.',
    ],
  },
};
