import { array, boolean, type InferType, number, object, string } from 'yup';

const textOrNull = () => string().nullable().defined();
const wholeOrNull = () => number().integer().nullable().defined();
const truthOrNull = () => boolean().nullable().defined();
const textsOrNull = () => array(string().defined()).nullable().defined();

/** The unit on one machine. */
const machineStatus = object({
  machine_id: textOrNull().meta({
    column: 'MACHINE',
    description: 'The id of the machine; null: it does not answer, and is known by its address only.',
  }),
  host: textOrNull().meta({ description: 'Its address; null: the cluster lists none.' }),
  load: textOrNull().meta({ column: 'LOAD', description: 'Such as loaded, not-found, masked.' }),
  active: textOrNull().meta({ column: 'ACTIVE', description: 'Such as active, inactive, failed.' }),
  sub: textOrNull().meta({ column: 'SUB', description: 'Such as running, dead, exited.' }),
  since: textOrNull().meta({
    column: 'SINCE',
    description: "Since when it is active, or whatever it is: ISO 8601, by the machine's clock.",
  }),
  main_pid: wholeOrNull().meta({ column: 'PID', description: 'The process id of its main process.' }),
  memory_bytes: wholeOrNull().meta({ description: 'The memory that it uses.' }),
  tasks: wholeOrNull().meta({ description: 'How many processes and threads it has.' }),
  restarts: wholeOrNull().meta({
    column: 'RESTARTS',
    description: 'How often systemd has restarted it by itself since somebody started it.',
  }),
  result: textOrNull().meta({
    column: 'RESULT',
    description: 'How it ended last, or success while it has not: exit-code, signal, timeout and others.',
  }),
  exit_status: wholeOrNull().meta({ description: 'With which status its main process has exited.' }),
  exit_signal: wholeOrNull().meta({
    description: 'The number of the signal that ended its main process.',
  }),
  invocation_id: textOrNull().meta({ description: 'Another one for each start.' }),
  enabled: textOrNull().meta({ description: 'Such as enabled, disabled, static, masked.' }),
  needs_daemon_reload: truthOrNull().meta({
    description: 'Whether its file has changed since systemd read it.',
  }),
  can_reload: truthOrNull().meta({ description: 'Whether it can reload its configuration.' }),
  fragment_path: textOrNull().meta({ description: 'The path of its file.' }),
  drop_ins: textsOrNull().meta({ description: 'The paths of the files that extend its file.' }),
  log: textsOrNull().meta({
    description: 'The last lines of its log, oldest first; null: it could not be read.',
  }),
  error: object({
    code: string().required().meta({ description: 'An error code.' }),
    message: string().required().meta({ column: 'ERROR', description: 'For people.' }),
  })
    .nullable()
    .defined()
    .meta({ description: 'Why the machine, or its log, could not be read completely; null: it was.' }),
});

export const statusResult = object({
  unit: string().required().meta({ description: 'The unit.' }),
  desired_state: textOrNull().meta({
    description:
      'What the cluster wants of it: inactive, loaded, launched. Of systemd hosts: launched when it is enabled, else loaded; null: it is none of the units that the cluster lists.',
  }),
  machines: array(machineStatus).required().meta({ description: 'The machines that have it.' }),
});

export type MachineStatus = InferType<typeof machineStatus>;

/** What is known of the unit on a machine that does not answer. */
export const NOTHING_KNOWN: Omit<MachineStatus, 'machine_id' | 'host' | 'error'> = {
  load: null,
  active: null,
  sub: null,
  since: null,
  main_pid: null,
  memory_bytes: null,
  tasks: null,
  restarts: null,
  result: null,
  exit_status: null,
  exit_signal: null,
  invocation_id: null,
  enabled: null,
  needs_daemon_reload: null,
  can_reload: null,
  fragment_path: null,
  drop_ins: null,
  log: null,
};
