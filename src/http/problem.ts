import { PROBLEM_TYPE_BASE, problems } from '../contract/problems.ts'
import { TotpError } from '../errors.ts'
import type { Rate } from '../policy.ts'
import type { HttpReply } from './message.ts'

/** RFC 9111 §5.2.2.5: every answer of ours, for any of them may hold a secret or say something of an account. */
export const NO_STORE = { 'cache-control': 'no-store' }

/**
 * The answer to a refusal: problem details of RFC 9457 with our `code`. The only place where a refusal is worded.
 * Whatever is not a refusal of ours is an `unavailable`: it failed, so nobody passes, and the client learns no more.
 */
export function problemReply(error: unknown): HttpReply {
  const refusal = error instanceof TotpError ? error : new TotpError('unavailable')
  const { code, fields, attemptsLeft, clockOffsetSeconds } = refusal
  const { status, title } = problems[code]
  const detail = detailOf(refusal)
  return {
    status,
    headers: { ...NO_STORE, 'content-type': 'application/problem+json', ...headersOf(refusal) },
    body: JSON.stringify({
      type: PROBLEM_TYPE_BASE + code,
      title,
      status,
      detail,
      code,
      ...(attemptsLeft === undefined ? {} : { attempts_left: attemptsLeft }),
      ...(clockOffsetSeconds === undefined ? {} : { clock_offset_seconds: clockOffsetSeconds }),
      ...(fields === undefined ? {} : { errors: fields }),
    }),
  }
}

/** The sentence of the code, and what helps this person now. */
function detailOf({ code, clockOffsetSeconds, retryAfterSeconds }: TotpError): string {
  if (code === 'recovery_link_invalid' && retryAfterSeconds !== undefined) return 'This link does not work yet.'
  const { detail } = problems[code]
  if (clockOffsetSeconds === undefined) return detail
  const direction = clockOffsetSeconds < 0 ? 'slow' : 'fast'
  return (
    `${detail} Your phone's clock is about ${Math.abs(clockOffsetSeconds)} seconds ${direction}. ` +
    'Turn on automatic date and time, or enter the next code the app shows.'
  )
}

function headersOf(refusal: TotpError): Record<string, string> {
  const { code, retryAfterSeconds: seconds, maxAgeSeconds, rate } = refusal
  switch (code) {
    case 'unauthenticated':
    case 'invalid_credentials':
      return { 'www-authenticate': 'Bearer' }
    case 'invalid_token':
      return { 'www-authenticate': 'Bearer error="invalid_token"' }
    case 'step_up_required': {
      // RFC 9470 §3.
      const maxAge = maxAgeSeconds === undefined ? '' : `, max_age="${maxAgeSeconds}"`
      const challenge = `Bearer error="insufficient_user_authentication", acr_values="aal2"${maxAge}`
      return { 'www-authenticate': challenge }
    }
    case 'throttled':
      return exhausted('calls', seconds ?? 1, rate)
    case 'too_many_attempts':
      return exhausted('second-factor', seconds ?? 1, { limit: 1, windowSeconds: seconds ?? 1 })
    case 'unavailable':
      return { 'retry-after': String(seconds ?? 5) }
    default:
      return seconds === undefined ? {} : { 'retry-after': String(seconds) }
  }
}

/** Retry-After, and the fields of draft-ietf-httpapi-ratelimit-headers as structured fields. */
function exhausted(policy: string, seconds: number, rate: Rate | undefined): Record<string, string> {
  return {
    'retry-after': String(seconds),
    ratelimit: `"${policy}";r=0;t=${seconds}`,
    ...(rate ? { 'ratelimit-policy': `"${policy}";q=${rate.limit};w=${rate.windowSeconds}` } : {}),
  }
}
