import type { Caller } from '../api/caller.js';

/**
 * Says who calls, or why the call is refused, in a sentence for the caller.
 * @param authorization the header of that name
 */
export type Authenticate = (
  authorization: string | undefined,
) => { readonly caller: Caller } | { readonly refused: string };
