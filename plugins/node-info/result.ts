import { array, boolean, type InferType, number, object, string } from 'yup';

const textOrNull = () => string().nullable().defined();
const whole = () => number().integer();

const wholeOrNull = () => whole().nullable().defined();

const disk = object({
  size_mb: wholeOrNull().meta({ description: 'Its size, in MiB.' }),
  used_mb: wholeOrNull().meta({ description: 'The used space, in MiB.' }),
  available_mb: wholeOrNull().meta({ description: 'The available space, in MiB.' }),
  used_percent: wholeOrNull().meta({
    column: 'DISK%',
    description: 'The use% that df shows; null where it shows none.',
  }),
});

const os = object({
  id: textOrNull().meta({ description: 'Its ID, such as coreos; linux when it has none.' }),
  version: textOrNull().meta({ description: 'Its VERSION_ID, or else its VERSION.' }),
  name: textOrNull().meta({ column: 'OS', description: 'Its PRETTY_NAME.' }),
});

const docker = object({
  client_version: textOrNull().meta({ description: 'The version of the client.' }),
  server_version: textOrNull().meta({ column: 'DOCKER', description: 'The version of the server.' }),
});

const memory = object({
  total_kb: whole().required().meta({ description: 'The total, in KiB.' }),
  available_kb: wholeOrNull().meta({
    description: 'The memory available to programs, in KiB; null: the kernel does not report it.',
  }),
});

const podman = object({
  version: textOrNull().meta({ column: 'PODMAN', description: 'Its version.' }),
  answers: boolean().required().meta({ description: 'Whether `podman version` succeeds.' }),
});

const osImage = object({
  updated_by: string().oneOf(['rpm-ostree', 'update_engine']).required().meta({
    description: 'Which of the two updates it.',
  }),
  booted_version: textOrNull().meta({
    description: 'The version that runs; the checksum where rpm-ostree has no version.',
  }),
  staged: boolean().required().meta({ description: 'Whether another version is ready, and boots next.' }),
  staged_version: textOrNull().meta({
    description: 'That version; null: there is none, or update_engine does not name it.',
  }),
});

const failedUnits = object({
  count: whole().required().meta({ column: 'FAILED', description: 'How many there are.' }),
  names: array(string().required()).required().meta({ description: 'The names of the first 20.' }),
});

const clockOffset = object({
  offset_ms: whole().required().meta({
    description: 'How far it is ahead of the clock of this service, in milliseconds; negative: behind.',
  }),
  uncertainty_ms: whole().required().meta({
    description:
      'By how much this may be wrong in either direction, in milliseconds: half the time on the way.',
  }),
});

/** The information of a node. Existing callers read the first three fields. */
export const nodeInfo = object({
  docker_disk_space_percent: wholeOrNull().meta({
    description: 'The use% of the file system that holds /var/lib/docker.',
  }),
  coreos_version: textOrNull().meta({ description: 'The text of /etc/os-release.' }),
  docker_version: textOrNull().meta({ description: 'The text of `docker version`.' }),
  disk: disk.nullable().defined().meta({ description: 'The file system that holds /var/lib/docker.' }),
  os: os.nullable().defined().meta({ description: 'The values of /etc/os-release.' }),
  docker: docker.nullable().defined().meta({ description: 'The versions in `docker version`.' }),
  load: array(number().required())
    .nullable()
    .defined()
    .meta({ column: 'LOAD', description: 'The load of the last 1, 5 and 15 minutes.' }),
  memory: memory.nullable().defined().meta({ description: 'The memory of the machine.' }),
  uptime_seconds: wholeOrNull().meta({ description: 'How long the machine has been up.' }),
  podman: podman.nullable().defined().meta({ description: 'Podman; null: it is not installed.' }),
  os_image: osImage.nullable().defined().meta({
    description:
      'An operating system that is updated as a whole; null: there is no rpm-ostree and no update_engine.',
  }),
  failed_units: failedUnits.nullable().defined().meta({
    description: 'The units of systemd that have failed; null: there is no systemd.',
  }),
  clock: clockOffset.nullable().defined().meta({ description: 'The clock of the machine.' }),
  errors: array(string().defined()).required().meta({
    column: 'ERRORS',
    description: 'Why values could not be read; empty when all were read that the machine has.',
  }),
});

/**
 * The information of a node; a value that could not be read is null, with the reason in `errors`. What the machine does not have is
 * null without one.
 */
export type NodeInfo = InferType<typeof nodeInfo>;
export type Disk = InferType<typeof disk>;
export type Os = InferType<typeof os>;
export type Docker = InferType<typeof docker>;
export type Podman = InferType<typeof podman>;
export type OsImage = InferType<typeof osImage>;
export type FailedUnits = InferType<typeof failedUnits>;

/** What is known of a node that could not be read at all. */
export const NOTHING_KNOWN: Omit<NodeInfo, 'errors'> = {
  docker_disk_space_percent: null,
  coreos_version: null,
  docker_version: null,
  disk: null,
  os: null,
  docker: null,
  load: null,
  memory: null,
  uptime_seconds: null,
  podman: null,
  os_image: null,
  failed_units: null,
  clock: null,
};
