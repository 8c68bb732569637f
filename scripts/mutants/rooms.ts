/** A room whose promises are held by tests. */
export interface Room {
  /** The folder with its sources. */
  sources: string;
  /** How the paths of the test files begin that hold it: those of its folder, and those of what is made with it. */
  tests: readonly string[];
}

export const ROOMS: Readonly<Record<string, Room>> = {
  restart: {
    sources: 'plugins/restart-unit',
    tests: ['test/plugins/restart-unit', 'test/plugins/informed-hosts.', 'test/plugins/keyed-mutex.'],
  },
  client: {
    sources: 'src/client',
    tests: ['test/client/'],
  },
  ssh: {
    sources: 'src/ssh',
    tests: ['test/ssh/', 'test/plugins/unit-logs.', 'test/plugins/node-info.'],
  },
  clusters: {
    sources: 'src/clusters',
    tests: ['test/clusters/', 'test/plugins/list-'],
  },
  core: {
    sources: 'src/core',
    tests: ['test/core/', 'test/rpc/rpc-server.', 'test/telemetry/request-log.'],
  },
  rpc: {
    sources: 'src/rpc',
    tests: ['test/rpc/', 'test/client/amqp-route.'],
  },
};
