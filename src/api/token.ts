/** Names a port that an action can inject. */
export type Token<T> = symbol & { readonly __gives?: T };
