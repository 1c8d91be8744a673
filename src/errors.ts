import { type ErrorCode, PROBLEM_TYPE_BASE, problems } from './contract/problems.ts'
import type { Rate } from './policy.ts'

export type { ErrorCode }

/** What a refusal may add to its code. Never a secret, a code or a token. */
export interface RefusalDetails {
  /** Seconds until the same call may succeed. */
  retryAfterSeconds?: number | undefined
  /** With a wrong code: further ones that are judged before one has to wait. */
  attemptsLeft?: number | undefined
  /** With a wrong code that would be right at another time: how far the app's clock is ahead; negative: behind. */
  clockOffsetSeconds?: number | undefined
  /** Field name → what is wrong with it, for people. */
  fields?: Readonly<Record<string, readonly string[]>> | undefined
  /** With `step_up_required`: how old the second factor may be. */
  maxAgeSeconds?: number | undefined
  /** With `throttled`: the rate that was exceeded. */
  rate?: Rate | undefined
  /** With `too_many_attempts` in a login: the challenge token that is still good when the wait is over. */
  challengeToken?: string | undefined
  /** With `challengeToken`: for how many seconds it is good. */
  challengeExpiresIn?: number | undefined
  /** What went wrong underneath, for the operator's log; never sent to a client. */
  cause?: unknown
}

/** The body of a refusal on the wire: problem details of RFC 9457 with our `code`. */
export interface ProblemBody {
  /** `urn:totp-kit:problem:` and the code. */
  type: string
  /** The kind of refusal, in a few words for people. */
  title: string
  /** The HTTP status. */
  status: number
  /** A sentence for people, safe to show. */
  detail: string
  /** Which refusal it is, for programs. */
  code: ErrorCode
  /** Seconds until the same call may succeed: what `Retry-After` says. */
  retry_after_seconds?: number
  /** With a wrong code: further codes that are checked before a delay. */
  attempts_left?: number
  /** With a wrong code that would be right at another time: how far the app's clock is ahead; negative: behind. */
  clock_offset_seconds?: number
  /** With `too_many_attempts` in a login: the challenge token that is still valid after the delay. */
  totp_challenge_token?: string
  /** Field name → what is wrong with it. */
  errors?: Readonly<Record<string, readonly string[]>>
}

/**
 * A refusal: the request was understood and the answer is no. A bug in the host's code is a TypeError or RangeError.
 *
 * Frameworks that read `status` or `statusCode`, `headers` and `expose` of an error (Express, Koa, Fastify, h3) answer
 * with the right status by themselves; `problemReply` and `problemResponse` give the whole answer.
 */
export class TotpError extends Error {
  /** The name of the class, in logs. */
  override readonly name = 'TotpError'
  /** Which refusal it is; the list is closed. */
  readonly code: ErrorCode
  /** The HTTP status. */
  readonly status: number
  /** The HTTP status, by the name that Fastify and h3 read. */
  readonly statusCode: number
  /** True: `message` is safe to show to people. */
  readonly expose = true
  /** The kind of refusal, in a few words for people. */
  readonly title: string
  /** A sentence for people, safe to show; the same as `message`. */
  readonly detail: string
  /** Seconds until the same call may succeed. */
  readonly retryAfterSeconds: number | undefined
  /** With a wrong code: further ones that are judged before one has to wait. */
  readonly attemptsLeft: number | undefined
  /** How many seconds the app's clock is ahead, where a code would be right at another time; negative: behind. */
  readonly clockOffsetSeconds: number | undefined
  /** With `validation_failed`: field name → what is wrong with it, for people. */
  readonly fields: Readonly<Record<string, readonly string[]>> | undefined
  /** With `step_up_required`: how many seconds old the second factor may be. */
  readonly maxAgeSeconds: number | undefined
  /** With `throttled`: the rate that was exceeded. */
  readonly rate: Rate | undefined

  /** With {@link TotpError.challengeToken}: for how many seconds it is good. Not on the wire. */
  readonly challengeExpiresIn: number | undefined

  /** Private, so that no log that prints the error prints the token. */
  readonly #challengeToken: string | undefined

  /** @param code - a host may throw one too: `new TotpError('unauthenticated')` out of `caller` is a 401 */
  constructor(code: ErrorCode, { cause, ...details }: RefusalDetails = {}) {
    const { status, title } = problems[code]
    const detail = detailOf(code, details)
    super(detail, cause === undefined ? undefined : { cause })
    this.code = code
    this.status = status
    this.statusCode = status
    this.title = title
    this.detail = detail
    this.retryAfterSeconds = details.retryAfterSeconds
    this.attemptsLeft = details.attemptsLeft
    this.clockOffsetSeconds = details.clockOffsetSeconds
    this.fields = details.fields
    this.maxAgeSeconds = details.maxAgeSeconds
    this.rate = details.rate
    this.challengeExpiresIn = details.challengeExpiresIn
    this.#challengeToken = details.challengeToken
  }

  /** With `too_many_attempts` in a login: the challenge token that is still good when the wait is over. */
  get challengeToken(): string | undefined {
    return this.#challengeToken
  }

  /** The headers that go with the answer: `WWW-Authenticate`, `Retry-After`, `RateLimit`, and `Cache-Control`. */
  get headers(): Record<string, string> {
    return { 'cache-control': 'no-store', ...headersOf(this) }
  }

  /** The body of the answer. */
  toJSON(): ProblemBody {
    const { code, status, title, detail, fields, attemptsLeft, clockOffsetSeconds, challengeToken } = this
    // Headers cannot be read across origins unless the host exposes them.
    const { 'retry-after': retryAfter } = this.headers
    return {
      type: PROBLEM_TYPE_BASE + code,
      title,
      status,
      detail,
      code,
      ...(retryAfter === undefined ? {} : { retry_after_seconds: Number(retryAfter) }),
      ...(attemptsLeft === undefined ? {} : { attempts_left: attemptsLeft }),
      ...(clockOffsetSeconds === undefined ? {} : { clock_offset_seconds: clockOffsetSeconds }),
      ...(challengeToken === undefined ? {} : { totp_challenge_token: challengeToken }),
      ...(fields === undefined ? {} : { errors: fields }),
    }
  }
}

/** The sentence of the code, and what helps this person now. */
function detailOf(code: ErrorCode, { clockOffsetSeconds, retryAfterSeconds }: RefusalDetails): string {
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
