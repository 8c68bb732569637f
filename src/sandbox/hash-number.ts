import { createHash } from 'node:crypto';

/** A number below 2^32, always the same for the same texts. */
export function seedOf(...texts: readonly string[]): number {
  return createHash('sha1').update(JSON.stringify(texts)).digest().readUInt32BE(0);
}

/** Hashes a number to one below 2^32, so that close numbers give very different ones (the finalizer of MurmurHash3). */
export function hashNumber(number: number): number {
  let mixed = number ^ (number >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
