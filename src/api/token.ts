/** Names a part of the service that an action can ask for in `inject`. */
export type Token<T> = symbol & { readonly __gives?: T };
