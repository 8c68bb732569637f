/** A JSON Schema document, draft 2020-12, as plain data. */
export type JsonSchema = Record<string, unknown>;

/** The description of an action, for people and programs. */
export interface ActionDescription {
  name: string;
  summary: string;
  target: 'cluster' | 'optional' | 'none';
  effect: 'read' | 'change';
  redelivery: 'run-again' | 'refuse';
  timeout_ms: number;
  parameters: JsonSchema;
  result: JsonSchema;
}
