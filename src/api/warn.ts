/** A machine, or a host, that did not answer while something was read. */
export interface UnreachableHost {
  /** An address or a host name. */
  host: string;
  /** The error code, such as `host_unreachable`. */
  code: string;
  /** For people. */
  reason: string;
}

/** What programs can use of a warning. */
export interface WarningFacts {
  /** What these have is missing in the result. */
  unreachable?: readonly UnreachableHost[];
}

/** Tells that a result may lack something. @param text a sentence for people */
export type Warn = (text: string, facts?: WarningFacts) => void;
