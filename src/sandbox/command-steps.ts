import type { CommandResult } from './simulated-machine.js';

/** A command that takes time: it yields how long it waits before it goes on, in milliseconds, and gives what it has printed in the end. */
export type CommandSteps = Generator<number, CommandResult>;
