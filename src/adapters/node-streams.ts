import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HttpBody, HttpReply } from '../http/message.ts'

/** A parser in front may have read the body already, and left an object, a text or bytes. */
export function bodyOf(request: IncomingMessage & { body?: unknown }): HttpBody {
  const { body } = request
  // An empty body ends without a read: to wait for it again would be to wait for ever.
  if (!request.readableDidRead && !request.readableEnded) return { read: (limit) => readStream(request, limit) }
  if (typeof body !== 'string' && !(body instanceof Uint8Array)) return { parsed: body }
  const bytes = Buffer.from(body as string)
  return { read: async (limit) => (bytes.length > limit ? null : bytes) }
}

/** The whole body; null when it is larger than `limit`, or when the client went away. */
function readStream(request: IncomingMessage, limit: number): Promise<Uint8Array | null> {
  // Of a client that went away before us nothing more comes, not even the end.
  if (request.destroyed) return Promise.resolve(null)
  const chunks: Uint8Array[] = []
  let size = 0
  return new Promise((resolve) => {
    // Goes on reading what is too large, to nowhere: a client that is still sending would not see the answer.
    request.on('data', (chunk: Uint8Array) => {
      size += chunk.length
      if (size <= limit) chunks.push(chunk)
      else resolve(null)
    })
    request.on('end', () => resolve(Buffer.concat(chunks)))
    request.on('error', () => resolve(null))
    request.on('close', () => resolve(null))
  })
}

/** Writes an answer of ours. */
export function send(response: ServerResponse, { status, headers, body }: HttpReply): void {
  response.writeHead(status, body === null ? headers : { ...headers, 'content-length': Buffer.byteLength(body) })
  response.end(body ?? undefined)
}
