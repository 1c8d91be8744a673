import type { ErrorRequestHandler, Request, RequestHandler } from 'express'
import { checkOptions } from '../check-options.ts'
import type { Totp } from '../create-totp.ts'
import { type ErrorCode, TotpError } from '../errors.ts'
import type { Freshness } from '../flows/step-up.ts'
import { clientAddress } from '../http/client-address.ts'
import { checkFreshness, createHandle, HOST_OPTIONS, type HostOptions, hostOptionsOf } from '../http/handle.ts'
import type { HttpBody, HttpReply } from '../http/message.ts'
import { problemReply } from '../http/problem.ts'
import { bodyOf, send } from './node-streams.ts'

/** The options of {@link expressTotp}; the context is Express's request. */
export type ExpressOptions = HostOptions<Request>

/** What {@link expressTotp} gives: the endpoints, and what goes with them for your own routes. */
export type ExpressTotp = [RequestHandler, ErrorRequestHandler] & {
  /**
   * The guard of a route: passes a request on when its caller proved a second factor at most `maxAgeSeconds` ago; otherwise
   * answers 401 when nobody is logged in, 403 `second_factor_required` for a user who has none, or the challenge of
   * RFC 9470.
   *
   * @throws TypeError for an unknown name in `freshness`; RangeError when `maxAgeSeconds` is out of range
   */
  require(freshness: Freshness): RequestHandler
  /** For `app.use`, after all routes: answers a `TotpError` that was thrown in any of them as the endpoints would. */
  errors: ErrorRequestHandler
}

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
 * The endpoints for Express 4 and 5. Works with and without `express.json()` in front; what is not ours goes on to the next
 * handler. The client's address is `request.ip`, so Express's own setting `trust proxy` says which proxies are believed.
 *
 * @example
 * ```ts
 * import express from 'express'
 * import { expressTotp } from 'totp-kit/express'
 *
 * const app = express()
 * const twoFactor = expressTotp(totp, { caller: (request) => callerOf(request.headers.authorization) })
 * app.use('/api', twoFactor)
 * app.get('/vault', twoFactor.require({ maxAgeSeconds: 300 }), (_request, response) => void response.send('gold'))
 * app.use(twoFactor.errors)
 * ```
 */
export function expressTotp(totp: Totp, options: ExpressOptions): ExpressTotp {
  checkOptions(options, HOST_OPTIONS)
  const handle = createHandle<Request>(totp, { ...hostOptionsOf(options), clientAddress: addressOf })
  const answer = (request: Request, body: HttpBody): Promise<HttpReply | null> => {
    const { method, path, baseUrl: basePath, headers } = request
    return handle({ method, path, basePath, headers, body }, request)
  }
  const endpoints: RequestHandler = async (request, response, next) => {
    const reply = await answer(request, bodyOf(request))
    if (reply) send(response, reply)
    else next()
  }
  const parserErrors: ErrorRequestHandler = async (error, request, response, next) => {
    const failed = parserFailure(error)
    const reply = failed === undefined ? null : await answer(request, { failed })
    if (reply) send(response, reply)
    else next(error)
  }
  return Object.assign([endpoints, parserErrors] as [RequestHandler, ErrorRequestHandler], {
    require(freshness: Freshness): RequestHandler {
      checkFreshness(freshness)
      return async (request, response, next) => {
        const refused = await handle.require(freshness, request)
        if (refused) send(response, refused)
        else next()
      }
    },
    errors: ((error, _request, response, next) => {
      if (error instanceof TotpError && !response.headersSent) send(response, problemReply(error))
      else next(error)
    }) satisfies ErrorRequestHandler,
  })
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
