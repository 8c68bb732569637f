import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { inRepository } from '../../support/repository.js';

const SCRIPT = inRepository('test/rpc/codec/erlang-peer.escript');

/** Whether `escript` (Debian: erlang-base) is on the PATH. */
export function hasErlang(): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, 'escript'), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A real Erlang in a separate process; evaluates one expression at a time, in the order of the calls. */
export class ErlangPeer {
  private readonly process: ChildProcess;
  private readonly input: Writable;
  private readonly frames: AsyncGenerator<Buffer, void>;
  private turn: Promise<unknown> = Promise.resolve();

  constructor() {
    const peer = spawn('escript', [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
    peer.on('error', (error) => peer.stdout.destroy(error));
    peer.stdin.on('error', (error) => peer.stdout.destroy(error));
    // The error is reported where a result is awaited.
    peer.stdout.on('error', () => undefined);
    this.process = peer;
    this.input = peer.stdin;
    this.frames = framesOf(peer.stdout);
  }

  /** Evaluates an expression that returns a binary. In `source` the variable `Data` is bound to `data`. */
  evaluate(source: string, data: Uint8Array = Buffer.alloc(0)): Promise<Buffer> {
    const answer = this.turn.then(() => this.ask(source, data));
    this.turn = answer.catch(() => undefined);
    return answer;
  }

  /** Reads `body` with `binary_to_term`. Returns 'same' if the result `=:=` the term of the given source, else the result. */
  async compare(body: Uint8Array, source: string): Promise<string> {
    const verdict = await this.evaluate(
      `Expected = ${source}, Actual = binary_to_term(Data),
       case Actual =:= Expected of
         true -> <<"same">>;
         false -> unicode:characters_to_binary(io_lib:format("~tp", [Actual]))
       end`,
      body,
    );
    return verdict.toString();
  }

  /** Closes the input of the process, which ends it. */
  async end(): Promise<void> {
    if (this.process.exitCode !== null || this.process.pid === undefined) return;
    const exit = once(this.process, 'exit');
    this.input.end();
    await exit;
  }

  private async ask(source: string, data: Uint8Array): Promise<Buffer> {
    const text = Buffer.from(source);
    const head = Buffer.alloc(8);
    head.writeUInt32BE(4 + data.length + text.length, 0);
    head.writeUInt32BE(data.length, 4);
    this.input.write(Buffer.concat([head, data, text]));
    const { value } = await this.frames.next();
    if (value === undefined) throw new Error('the Erlang process has ended');
    if (value[0] !== 0x3d) throw new Error(`Erlang: ${value.subarray(1).toString()}`);
    return value.subarray(1);
  }
}

async function* framesOf(output: Readable): AsyncGenerator<Buffer, void> {
  let received: Buffer = Buffer.alloc(0);
  for await (const chunk of output) {
    received = Buffer.concat([received, Buffer.from(chunk)]);
    while (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) {
      const end = 4 + received.readUInt32BE(0);
      yield received.subarray(4, end);
      received = received.subarray(end);
    }
  }
}
