import type { Action } from '../api/action.js';
import type { JsonSchema } from './json-schema.js';

/** The description of an action, for people and programs. */
export interface ActionDescription {
  name: string;
  summary: string;
  target: Action['target'];
  effect: Action['effect'];
  redelivery: 'run-again' | 'refuse';
  timeout_ms: number;
  parameters: JsonSchema;
  result: JsonSchema;
}
