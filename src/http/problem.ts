import { TotpError } from '../errors.ts'
import type { HttpReply } from './message.ts'

/** RFC 9111 §5.2.2.5: every answer of ours, for any of them may hold a secret or say something of an account. */
export const NO_STORE = { 'cache-control': 'no-store' }

/**
 * The answer to a refusal: problem details of RFC 9457 with our `code`, as the endpoints give them.
 * Whatever is not a refusal of ours is an `unavailable`: it failed, so nobody passes, and the client learns no more.
 */
export function problemReply(error: unknown): HttpReply {
  const refusal = error instanceof TotpError ? error : new TotpError('unavailable')
  return {
    status: refusal.status,
    headers: { ...refusal.headers, 'content-type': 'application/problem+json' },
    body: JSON.stringify(refusal),
  }
}

/** {@link problemReply} as a `Response`, for hosts that speak Fetch. */
export function problemResponse(error: unknown): Response {
  const { status, headers, body } = problemReply(error)
  return new Response(body, { status, headers })
}
