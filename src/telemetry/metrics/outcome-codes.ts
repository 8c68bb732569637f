import { ERROR_CODES, errorCodeInfo, type Fault } from '../../api/error-codes.js';

/** The label of a request that was completed. */
export const COMPLETED = 'completed';
/** The label of all codes beyond the limit. */
const OTHER = 'other';
/** How many codes of plugins are told apart: an action may make up codes from what a caller sends. */
const MAX_PLUGIN_CODES = 50;

/** The labels of outcomes: few enough for metrics, whatever actions do. */
export class OutcomeCodes {
  readonly #known = new Set<string>(Object.keys(ERROR_CODES));
  #left = MAX_PLUGIN_CODES;

  labelOf(code: string): string {
    if (this.#known.has(code)) return code;
    if (this.#left === 0 || code === COMPLETED || !/^[a-z][a-z0-9_]{0,63}$/.test(code)) return OTHER;
    this.#left--;
    this.#known.add(code);
    return code;
  }
}

/** @param label of an outcome */
export function faultOf(label: string): Fault | 'none' {
  return label === COMPLETED ? 'none' : errorCodeInfo(label).fault;
}
