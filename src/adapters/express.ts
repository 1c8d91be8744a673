import type { ErrorRequestHandler, Request, RequestHandler } from 'express'
import type { Totp } from '../create-totp.ts'
import type { ErrorCode } from '../errors.ts'
import { clientAddress } from '../http/client-address.ts'
import { createHandle } from '../http/handle.ts'
import type { HttpBody, HttpReply } from '../http/message.ts'
import { type GuardOptions, type HostOptions, hostParts, refuseWithoutTwoFactor } from './host-options.ts'
import { bodyOf, send } from './node-streams.ts'

export type ExpressOptions = HostOptions<Request>

/** What `express.json()` and its kin failed with, in our words. */
const PARSER_FAILURES: Readonly<Record<string, ErrorCode>> = {
  'entity.parse.failed': 'malformed_json',
  'entity.too.large': 'payload_too_large',
  'encoding.unsupported': 'unsupported_media_type',
  'charset.unsupported': 'unsupported_media_type',
  'parameters.too.many': 'payload_too_large',
  'querystring.parse.rangeError': 'malformed_json',
}

/**
 * The endpoints for Express 5: `app.use('/api', expressTotp(totp, { … }))`. Works with and without `express.json()` in
 * front; what is not ours goes on to the next handler. The client's address is `request.ip`, so Express's own setting
 * `trust proxy` says which proxies are believed.
 *
 * @example
 * ```ts
 * import express from 'express'
 * import { expressTotp } from 'totp-kit/express'
 *
 * const app = express()
 * app.use('/api', expressTotp(totp, { caller: (request) => callerOf(request.headers.authorization) }))
 * ```
 *
 * @returns a handler, and an error handler that words what a body parser in front refused
 */
export function expressTotp(totp: Totp, options: ExpressOptions): [RequestHandler, ErrorRequestHandler] {
  const handle = createHandle(totp, options)
  const answer = (request: Request, body: HttpBody): Promise<HttpReply | null> =>
    handle({
      method: request.method,
      path: request.path,
      mount: request.baseUrl,
      header: (name) => request.headers[name],
      body,
      clientAddress: () => addressOf(request),
      ...hostParts(options, request),
    })
  return [
    async (request, response, next) => {
      const reply = await answer(request, bodyOf(request))
      if (reply) send(response, reply)
      else next()
    },
    async (error, request, response, next) => {
      const failed = parserFailure(error)
      const reply = failed === undefined ? null : await answer(request, { failed })
      if (reply) send(response, reply)
      else next(error)
    },
  ]
}

/**
 * Lets a request pass when its caller proved a second factor at most `maxAgeSeconds` ago; otherwise answers with the
 * challenge of RFC 9470, or with 401 when nobody is logged in.
 *
 * @example
 * ```ts
 * import express from 'express'
 * import { requireTwoFactor } from 'totp-kit/express'
 *
 * const guard = requireTwoFactor(totp, {
 *   caller: (request) => callerOf(request.headers.authorization),
 *   maxAgeSeconds: 300,
 * })
 * express().get('/vault', guard, (_request, response) => void response.json({ secret: 'here' }))
 * ```
 */
export function requireTwoFactor(totp: Totp, options: GuardOptions<Request>): RequestHandler {
  return async (request, response, next) => {
    const refused = await refuseWithoutTwoFactor(totp, options, request)
    if (refused) send(response, refused)
    else next()
  }
}

/** Express takes any word of a trusted proxy for an address; garbage must not be a caller of its own. */
function addressOf({ ip, socket }: Request): string | null {
  return clientAddress(ip, undefined, null) ?? clientAddress(socket.remoteAddress, undefined, null)
}

function parserFailure(error: { type?: unknown; code?: unknown } | null | undefined): ErrorCode | undefined {
  // What zlib and Brotli fail with while they inflate; body-parser adds a type to its own failures only.
  if (/^(Z_|ERR__)/.test(String(error?.code))) return 'unsupported_media_type'
  return PARSER_FAILURES[String(error?.type)]
}
