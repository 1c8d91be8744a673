import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HttpReply } from '../http/message.ts'

/** The whole body; null when it is larger than `limit`, or when the client went away. */
export function readStream(request: IncomingMessage, limit: number): Promise<Uint8Array | null> {
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
