import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { addressIn } from '../http/client-address.ts'
import { createHandle } from '../http/handle.ts'
import type { HttpReply } from '../http/message.ts'
import { problemReply } from '../http/problem.ts'
import { type GuardOptions, type HostOptions, hostParts, refuseWithoutTwoFactor } from './host-options.ts'

export interface FetchOptions extends HostOptions<Request> {
  /**
   * The client's address as your platform tells it, for counting anonymous calls: a `Request` does not know it. A port
   * is left out. Null, and any text that is not one address, counts as unknown: all such clients are counted together.
   */
  clientAddress: (request: Request) => string | null
  /** The path under which the endpoints stand. Default `/api`. */
  mount?: string
  /** Gets what is not ours. Default: answers 404. */
  otherwise?: (request: Request) => Response | Promise<Response>
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
export function fetchTotp(totp: Totp, options: FetchOptions): (request: Request) => Promise<Response> {
  const handle = createHandle(totp, options)
  const mount = (options.mount ?? '/api').replace(/\/$/, '')
  const otherwise = options.otherwise ?? (() => respond(problemReply(new TotpError('not_found'))))
  return async (request) => {
    const { pathname } = new URL(request.url)
    const reply = pathname.startsWith(`${mount}/`)
      ? await handle({
          method: request.method,
          path: pathname.slice(mount.length),
          mount,
          header: (name) => request.headers.get(name) ?? undefined,
          body: { read: (limit) => readBody(request, limit) },
          clientAddress: () => addressIn(options.clientAddress(request)),
          ...hostParts(options, request),
        })
      : null
    return reply ? respond(reply) : otherwise(request)
  }
}

/**
 * A handler that runs `handler` when the caller proved a second factor at most `maxAgeSeconds` ago; otherwise answers
 * with the challenge of RFC 9470, or with 401 when nobody is logged in.
 */
export function requireTwoFactor(
  totp: Totp,
  options: GuardOptions<Request>,
  handler: (request: Request) => Response | Promise<Response>,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const refused = await refuseWithoutTwoFactor(totp, options, request)
    return refused ? respond(refused) : handler(request)
  }
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
