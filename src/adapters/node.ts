import type { IncomingMessage, ServerResponse } from 'node:http'
import { checkOptions, type OptionNames } from '../check-options.ts'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import type { Freshness } from '../flows/step-up.ts'
import { clientAddress, trustedProxies, UNIX_SOCKET } from '../http/client-address.ts'
import { checkFreshness, createHandle, HOST_OPTIONS, type HostOptions, hostOptionsOf } from '../http/handle.ts'
import { problemReply } from '../http/problem.ts'
import { bodyOf, send } from './node-streams.ts'

/** The options of {@link nodeTotp}; the context is the request. */
export interface NodeOptions extends HostOptions<IncomingMessage> {
  /** The path under which the endpoints are mounted. Default `/api`. */
  basePath?: string | undefined
  /**
   * Proxies whose `X-Forwarded-For` is believed: addresses, CIDR ranges, and `unix` for whatever connects to a Unix-domain
   * socket. Default: none, the socket's address counts.
   */
  trustedProxies?: readonly string[] | undefined
}

const NODE_OPTIONS: OptionNames<NodeOptions> = { ...HOST_OPTIONS, basePath: true, trustedProxies: true }

/** A handler for `node:http`; `next` gets what is not ours, or not refused. */
export type NodeHandler = (request: IncomingMessage, response: ServerResponse, next?: () => void) => Promise<void>

/** What {@link nodeTotp} gives: the endpoints, and what goes with them for your own routes. */
export type NodeTotp = NodeHandler & {
  /**
   * The guard of a route: calls `next` when the caller proved a second factor at most `maxAgeSeconds` ago; otherwise answers
   * 401 when nobody is logged in, 403 `second_factor_required` for a user who has none, or the challenge of RFC 9470.
   *
   * @throws TypeError for an unknown name in `freshness`; RangeError when `maxAgeSeconds` is out of range
   */
  require(freshness: Freshness): (request: IncomingMessage, response: ServerResponse, next: () => void) => Promise<void>
  /** Answers a `TotpError` as the endpoints would; hands any other error to `next`, or throws it where there is none. */
  errors(error: unknown, request: IncomingMessage, response: ServerResponse, next?: (error: unknown) => void): void
}

/**
 * The endpoints for `node:http`. Answers what is ours; hands the rest to `next`, or answers 404 where there is none.
 *
 * @example
 * ```ts
 * import { createServer } from 'node:http'
 * import { nodeTotp } from 'totp-kit/node'
 *
 * createServer(nodeTotp(totp, { caller: (request) => callerOf(request.headers.authorization) })).listen(3000)
 * ```
 */
export function nodeTotp(totp: Totp, options: NodeOptions): NodeTotp {
  checkOptions(options, NODE_OPTIONS)
  const basePath = (options.basePath ?? '/api').replace(/\/$/, '')
  const proxies = options.trustedProxies ? trustedProxies(options.trustedProxies) : null
  const handle = createHandle<IncomingMessage>(totp, {
    ...hostOptionsOf(options),
    clientAddress: (request) => clientAddress(peerOf(request), forwardedFor(request), proxies),
  })
  const endpoints: NodeHandler = async (request, response, next) => {
    const { method = '', headers } = request
    // A target may name the whole URL: RFC 9112 §3.2.2.
    const [path = ''] = (request.url ?? '').replace(/^https?:\/\/[^/?]*/i, '').split('?')
    const below = { method, path: path.slice(basePath.length), basePath, headers, body: bodyOf(request) }
    const reply = path.startsWith(`${basePath}/`) ? await handle(below, request) : null
    if (reply) send(response, reply)
    else if (next) next()
    else send(response, problemReply(new TotpError('not_found')))
  }
  return Object.assign(endpoints, {
    require(freshness: Freshness) {
      checkFreshness(freshness)
      return async (request: IncomingMessage, response: ServerResponse, next: () => void): Promise<void> => {
        const refused = await handle.require(freshness, request)
        if (refused) send(response, refused)
        else next()
      }
    },
    errors(error: unknown, _request: IncomingMessage, response: ServerResponse, next?: (error: unknown) => void): void {
      if (error instanceof TotpError && !response.headersSent) send(response, problemReply(error))
      else if (next) next(error)
      else throw error
    },
  })
}

/**
 * A connection by TCP has a local address for as long as it is open, also when its client has gone: such a client must not
 * pass for a proxy on a Unix-domain socket.
 */
function peerOf({ socket }: IncomingMessage): string | undefined {
  const isUnixSocket = !socket.destroyed && socket.localAddress === undefined
  return isUnixSocket ? UNIX_SOCKET : socket.remoteAddress
}

function forwardedFor(request: IncomingMessage): string | undefined {
  const header = request.headers['x-forwarded-for']
  return Array.isArray(header) ? header.join(',') : header
}
