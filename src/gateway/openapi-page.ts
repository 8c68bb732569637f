import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { OpenApiOptions } from './openapi/document.js';

/** The document as it is sent. */
interface Written {
  readonly body: Buffer;
  /** A strong entity tag (RFC 9110, 8.8.3), with its quotes. */
  readonly etag: string;
}

/** `GET /openapi.json`. The document is made for the first request, and kept. */
export class OpenApiPage {
  readonly #options: () => OpenApiOptions;
  #written: Written | undefined;

  /** @param options what the service is; it stays the same */
  constructor(options: () => OpenApiOptions) {
    this.#options = options;
  }

  async send({ headers }: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { body, etag } = (this.#written ??= await this.#write());
    // A copy may be kept, and is to be checked: the actions may be others after a restart.
    reply.header('etag', etag).header('cache-control', 'no-cache');
    if (isKnown(headers['if-none-match'], etag)) return reply.code(304).send();
    return reply.type('application/json; charset=utf-8').send(body);
  }

  async #write(): Promise<Written> {
    const { openApiDocument } = await import('./openapi/document.js');
    const body = Buffer.from(JSON.stringify(openApiDocument(this.#options())));
    return { body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` };
  }
}

/** Whether the caller has the document already. @param ifNoneMatch the header of that name: entity tags, which may be weak, or `*` */
function isKnown(ifNoneMatch: string | undefined, etag: string): boolean {
  return (ifNoneMatch ?? '').split(',').some((each) => ['*', etag, `W/${etag}`].includes(each.trim()));
}
