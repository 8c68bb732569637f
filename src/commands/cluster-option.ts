import { type Command, Option } from 'commander';

/** Names the cluster for those who work with one only. No setting: the service has no use for it. */
const VARIABLE = 'FLEET_MANAGER_CLUSTER';

/** The option `--cluster`, which an environment variable can stand for. @param value what it takes, for the help */
export function clusterOption(about: string, value = 'token'): Option {
  return new Option(`--cluster <${value}>`, about).env(VARIABLE);
}

/**
 * The options, with the cluster that the command line names apart from that of the environment: a command that needs no cluster
 * leaves that one out.
 */
export function withCluster<Options extends { cluster?: string | undefined }>(
  options: Options,
  command: Command,
): Options & { cluster: string | undefined; standardCluster: string | undefined } {
  const { cluster } = options;
  const isStandard = command.getOptionValueSource('cluster') === 'env';
  return {
    ...options,
    cluster: isStandard ? undefined : cluster,
    // Many tools pass an unset variable as an empty one.
    standardCluster: (isStandard && cluster?.trim()) || undefined,
  };
}
