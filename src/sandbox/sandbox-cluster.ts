import type { Clock } from '../lib/clock.js';
import { type ClusterContents, ClusterState } from './cluster.js';
import type { Fault } from './faults.js';
import { respondAsFleet, failure } from './fleet-api.js';
import { LoopbackService, type ReceivedRequest, type SandboxResponse } from './loopback-service.js';

interface SandboxClusterSetup extends ClusterContents {
  clock: Clock;
  token: string;
  hosts: readonly string[];
  members: readonly string[];
  pageSize: number;
  /** How long each response takes, in milliseconds. */
  responseDelay: number;
}

/** A simulated cluster: its state, and its fleet API on its own loopback addresses. */
export class SandboxCluster extends ClusterState {
  readonly token: string;
  /** The addresses of its fleet API. */
  readonly hosts: readonly string[];
  /** The values that discovery lists under the token, also of members that do not answer. */
  members: readonly string[];
  readonly #service: LoopbackService;

  constructor({ token, hosts, members, pageSize, responseDelay, ...contents }: SandboxClusterSetup) {
    super(contents);
    this.token = token;
    this.hosts = hosts;
    this.members = members;
    this.#service = new LoopbackService({
      reply: (request) => (this.etcdIsAway ? failed(503) : respondAsFleet(this, request, pageSize)),
      failure: failed,
      clock: contents.clock,
      responseDelay,
    });
  }

  /** The requests that the fleet API received, oldest first; a test may empty the list. */
  get requests(): ReceivedRequest[] {
    return this.#service.requests;
  }

  /**
   * Starts a simulated fault of the fleet API.
   * @returns a function that ends it; after `refuse`, it resolves when the API listens again
   */
  fail(fault: Fault): () => Promise<void> {
    return this.#service.fail(fault);
  }

  /** Starts listening; the sandbox calls it. */
  listen(port: number): Promise<number> {
    return this.#service.listen(this.hosts, port);
  }

  /** Closes every connection; the sandbox calls it. */
  stop(): void {
    this.#service.stop();
  }
}

function failed(status: number): SandboxResponse {
  return failure(status, FAILURE_MESSAGES[status]);
}

const FAILURE_MESSAGES: Readonly<Record<number, string>> = {
  503: 'fleet server unable to communicate with etcd',
};
