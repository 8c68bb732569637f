import type { ActionDescription } from '../../src/core/action-description.js';

/** An action as the catalogue describes it. */
export const DESCRIPTION: ActionDescription = {
  name: 'look',
  summary: 'Looks.',
  target: 'none',
  effect: 'read',
  redelivery: 'run-again',
  timeout_ms: 1_000,
  parameters: {},
  result: {},
};
