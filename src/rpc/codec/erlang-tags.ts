/**
 * First bytes of Erlang's external term format, named as in https://www.erlang.org/doc/apps/erts/erl_ext_dist.html.
 */
export const VERSION = 131;
export const COMPRESSED = 80;

export const NEW_FLOAT_EXT = 70;
export const SMALL_INTEGER_EXT = 97;
export const INTEGER_EXT = 98;
export const FLOAT_EXT = 99;
export const ATOM_EXT = 100;
export const SMALL_TUPLE_EXT = 104;
export const LARGE_TUPLE_EXT = 105;
export const NIL_EXT = 106;
export const STRING_EXT = 107;
export const LIST_EXT = 108;
export const BINARY_EXT = 109;
export const SMALL_BIG_EXT = 110;
export const LARGE_BIG_EXT = 111;
export const SMALL_ATOM_EXT = 115;
export const MAP_EXT = 116;
export const ATOM_UTF8_EXT = 118;
export const SMALL_ATOM_UTF8_EXT = 119;

/** Terms that a message must not contain, by tag: they have no meaning outside the Erlang node that created them. */
export const REFUSED: ReadonlyMap<number, string> = new Map([
  [68, 'a distribution header'],
  [77, 'a bit string that is not whole bytes'],
  [82, 'a reference to an atom cache'],
  [88, 'a process id'],
  [89, 'a port'],
  [90, 'a reference'],
  [101, 'a reference'],
  [102, 'a port'],
  [103, 'a process id'],
  [112, 'a function'],
  [113, 'a function'],
  [114, 'a reference'],
  [117, 'a function'],
  [120, 'a port'],
  [121, 'a term local to one node'],
  [COMPRESSED, 'a compressed term within a term'],
]);
