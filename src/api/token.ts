/** Identifies a dependency that an action can list in `inject`. */
export type Token<T> = symbol & { readonly __gives?: T };
