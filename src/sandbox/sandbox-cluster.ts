import type { Clock } from '../lib/clock.js';
import { type ClusterContents, ClusterState } from './cluster.js';
import type { Fault } from './faults.js';
import { answerFleet, failure } from './fleet-api.js';
import { LoopbackService, type ReceivedRequest } from './loopback-service.js';

interface SandboxClusterSetup extends ClusterContents {
  clock: Clock;
  token: string;
  hosts: readonly string[];
  members: readonly string[];
  pageSize: number;
  /** How long each answer takes, in milliseconds. */
  answerDelay: number;
}

/** A simulated cluster: its state, and its fleet API on loopback addresses of its own. */
export class SandboxCluster extends ClusterState {
  readonly token: string;
  /** The addresses its fleet API answers on. */
  readonly hosts: readonly string[];
  /** What discovery lists under the token, whether or not anything answers there. */
  members: readonly string[];
  readonly #service: LoopbackService;

  constructor({ token, hosts, members, pageSize, answerDelay, ...contents }: SandboxClusterSetup) {
    super(contents);
    this.token = token;
    this.hosts = hosts;
    this.members = members;
    this.#service = new LoopbackService({
      reply: (request) => answerFleet(this, request, pageSize),
      failure: (status) => failure(status, FAILURE_MESSAGES[status]),
      clock: contents.clock,
      answerDelay,
    });
  }

  /** What the fleet API has been asked, oldest first; a test may empty it. */
  get requests(): ReceivedRequest[] {
    return this.#service.requests;
  }

  /**
   * Lets something go wrong with the fleet API.
   * @returns ends it; after `refuse`, resolves when the API listens again
   */
  fail(fault: Fault): () => Promise<void> {
    return this.#service.fail(fault);
  }

  /** Begins to listen; the sandbox calls it. */
  listen(port: number): Promise<number> {
    return this.#service.listen(this.hosts, port);
  }

  /** Cuts every connection; the sandbox calls it. */
  stop(): void {
    this.#service.stop();
  }
}

const FAILURE_MESSAGES: Readonly<Record<number, string>> = {
  503: 'fleet server unable to communicate with etcd',
};
