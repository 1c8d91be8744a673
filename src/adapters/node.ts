import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { clientAddress, trustedProxies, UNIX_SOCKET } from '../http/client-address.ts'
import { createHandle } from '../http/handle.ts'
import { problemReply } from '../http/problem.ts'
import { type GuardOptions, type HostOptions, hostParts, refuseWithoutTwoFactor } from './host-options.ts'
import { bodyOf, send } from './node-streams.ts'

export interface NodeOptions extends HostOptions<IncomingMessage> {
  /** The path under which the endpoints stand. Default `/api`. */
  mount?: string
  /**
   * Proxies whose `X-Forwarded-For` is believed: addresses, CIDR ranges, and `unix` for whatever connects to a Unix-domain
   * socket. Default: none, the socket's address counts.
   */
  trustedProxies?: readonly string[]
}

/** A handler for `node:http`; `next` gets what is not ours, or not refused. */
export type NodeHandler = (request: IncomingMessage, response: ServerResponse, next?: () => void) => Promise<void>

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
export function nodeTotp(totp: Totp, options: NodeOptions): NodeHandler {
  const handle = createHandle(totp, options)
  const mount = (options.mount ?? '/api').replace(/\/$/, '')
  const proxies = options.trustedProxies ? trustedProxies(options.trustedProxies) : null
  return async (request, response, next) => {
    // A target may name the whole URL: RFC 9112 §3.2.2.
    const [path = ''] = (request.url ?? '').replace(/^https?:\/\/[^/?]*/i, '').split('?')
    const reply = path.startsWith(`${mount}/`)
      ? await handle({
          method: request.method ?? '',
          path: path.slice(mount.length),
          mount,
          header: (name) => request.headers[name],
          body: bodyOf(request),
          clientAddress: () => clientAddress(peerOf(request), forwardedFor(request), proxies),
          ...hostParts(options, request),
        })
      : null
    if (reply) send(response, reply)
    else if (next) next()
    else send(response, problemReply(new TotpError('not_found')))
  }
}

/**
 * Calls `next` when the caller proved a second factor at most `maxAgeSeconds` ago; otherwise answers with the challenge
 * of RFC 9470, or with 401 when nobody is logged in.
 */
export function requireTwoFactor(totp: Totp, options: GuardOptions<IncomingMessage>) {
  return async (request: IncomingMessage, response: ServerResponse, next: () => void): Promise<void> => {
    const refused = await refuseWithoutTwoFactor(totp, options, request)
    if (refused) send(response, refused)
    else next()
  }
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
