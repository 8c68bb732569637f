/** An action that the handler of a request calls. */
export interface NestedCall {
  /** Identifies its run among those of the request. */
  readonly run: number;
  /** The run that calls it; 0: that of the request. */
  readonly within: number;
  /** The name of the action. */
  readonly action: string;
  /** Checked, with defaults filled in. */
  readonly parameters: unknown;
}

export interface NestedScope {
  /** The patterns of the units that the caller may see or change; undefined: all. */
  readonly units: readonly string[] | undefined;
}

/** Decides on the actions that the handler of one request calls. It is in the process of the service, wherever the handler runs. */
export interface NestedAuthority {
  /** @throws ActionError, or an Error when the call is a defect of the plugin: it must not begin */
  enter(call: NestedCall): Promise<NestedScope>;
  /** Ends the run, once. @param outcome `completed`, or the code of the error. Never rejects */
  leave(run: number, outcome: string): Promise<void>;
}
