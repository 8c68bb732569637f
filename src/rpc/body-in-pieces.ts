/** The length from which a body stays in pieces. Smaller ones are joined faster than they are written one by one. */
export const LARGE_BODY = 65_536;

const pieces = new WeakMap<Buffer, readonly Buffer[]>();

/**
 * A body made of these parts. A large one stays in pieces that are sent one after the other: joined, it would be in memory twice. What it is handed on by, amqplib
 * included, needs its length alone, so it is a buffer of which nothing else can be read; `piecesOf` and `joined` give its bytes.
 */
export function bodyInPieces(parts: readonly Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length < LARGE_BODY) return Buffer.concat(parts, length);
  const body: Buffer = Object.create(Buffer.prototype, {
    length: { value: length },
    // As of a buffer that is no part of a larger one.
    buffer: { value: { byteLength: length } },
  });
  pieces.set(body, parts);
  return body;
}

/** The pieces of a body; an ordinary one is one piece. */
export function piecesOf(body: Buffer): readonly Buffer[] {
  return pieces.get(body) ?? [body];
}

/** A body as an ordinary buffer. */
export function joined(body: Buffer): Buffer {
  const parts = pieces.get(body);
  return parts === undefined ? body : Buffer.concat(parts);
}

/** Cuts a body into parts of this many bytes, the last one into less; each is given as the pieces that it consists of. */
export function* cut(body: Buffer, bytes: number): Generator<Buffer[]> {
  let part: Buffer[] = [];
  let room = bytes;
  for (const piece of piecesOf(body)) {
    for (let at = 0; at < piece.length; ) {
      const taken = piece.subarray(at, at + room);
      part.push(taken);
      at += taken.length;
      room -= taken.length;
      if (room > 0) continue;
      yield part;
      [part, room] = [[], bytes];
    }
  }
  if (part.length > 0) yield part;
}
