import { checkOptions, type OptionNames } from '../check-options.ts'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import type { Freshness } from '../flows/step-up.ts'
import { checkFreshness, createHandle, HOST_OPTIONS, type HostOptions, hostOptionsOf } from '../http/handle.ts'
import type { HttpReply } from '../http/message.ts'
import { problemResponse } from '../http/problem.ts'

/** The options of {@link fetchTotp}; the context is the `Request`. */
export interface FetchOptions extends HostOptions<Request> {
  /**
   * The client's address as your platform tells it, for counting anonymous calls: a `Request` does not know it. A port
   * is left out. Null, and any text that is not one address, counts as unknown: all such clients are counted together.
   * Required with `jwt` or `recovery`, whose callers are anonymous. Default: none.
   */
  clientAddress?: ((request: Request) => string | null | undefined) | undefined
  /** The path under which the endpoints are mounted. Default `/api`. */
  basePath?: string | undefined
  /** Handles requests outside `basePath`. Default: responds with 404. */
  fallback?: FetchHandler | undefined
}

const FETCH_OPTIONS: OptionNames<FetchOptions> = {
  ...HOST_OPTIONS,
  clientAddress: true,
  basePath: true,
  fallback: true,
}

/** A handler of the host's. */
export type FetchHandler = (request: Request) => Response | Promise<Response>

/** What {@link fetchTotp} gives: the endpoints, and what goes with them for your own routes. */
export type FetchTotp = ((request: Request) => Promise<Response>) & {
  /**
   * The guard of a route: runs `handler` when the caller proved a second factor at most `maxAgeSeconds` ago; otherwise
   * answers 401 when nobody is logged in, 403 `second_factor_required` for a user who has none, or the challenge of
   * RFC 9470.
   *
   * @throws TypeError for an unknown name in `freshness`; RangeError when `maxAgeSeconds` is out of range
   */
  require(freshness: Freshness, handler: FetchHandler): (request: Request) => Promise<Response>
  /** Answers a `TotpError` as the endpoints would. @throws whatever else it is given */
  errors(error: unknown): Response
}

/**
 * The endpoints for everything that speaks `Request` and `Response`.
 *
 * @example
 * ```ts
 * import { fetchTotp } from 'totp-kit/fetch'
 *
 * const handler = fetchTotp(totp, {
 *   caller: (request) => callerOf(request.headers.get('authorization') ?? undefined),
 *   clientAddress: (request) => request.headers.get('x-real-ip'), // set by the platform, whatever the client sent
 * })
 * ```
 */
export function fetchTotp(totp: Totp, options: FetchOptions): FetchTotp {
  checkOptions(options, FETCH_OPTIONS)
  const handle = createHandle<Request>(totp, {
    ...hostOptionsOf(options),
    clientAddress: options.clientAddress && ((request) => options.clientAddress?.(request)),
  })
  const basePath = (options.basePath ?? '/api').replace(/\/$/, '')
  const fallback = options.fallback ?? (() => problemResponse(new TotpError('not_found')))
  const endpoints = async (request: Request): Promise<Response> => {
    const { method, headers } = request
    const { pathname } = new URL(request.url)
    const body = { read: (limit: number) => readBody(request, limit) }
    const below = { method, path: pathname.slice(basePath.length), basePath, headers, body }
    const reply = pathname.startsWith(`${basePath}/`) ? await handle(below, request) : null
    return reply ? respond(reply) : fallback(request)
  }
  return Object.assign(endpoints, {
    require(freshness: Freshness, handler: FetchHandler) {
      checkFreshness(freshness)
      return async (request: Request) => {
        const refused = await handle.require(freshness, request)
        return refused ? respond(refused) : handler(request)
      }
    },
    errors(error: unknown): Response {
      if (error instanceof TotpError) return problemResponse(error)
      throw error
    },
  })
}

/** The whole body; null when it is larger than `limit`. */
async function readBody(request: Request, limit: number): Promise<Uint8Array | null> {
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = request.body?.getReader()
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    size += part.value.length
    if (size > limit) {
      await reader?.cancel()
      return null
    }
    chunks.push(part.value)
  }
  return Buffer.concat(chunks)
}

function respond({ status, headers, body }: HttpReply): Response {
  return new Response(body, { status, headers })
}
