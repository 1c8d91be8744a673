import type { Rate } from './policy.ts'

/** Why a request is refused: the closed list. `contract/problems.ts` gives each its HTTP status and wording. */
export type ErrorCode =
  | 'validation_failed'
  | 'malformed_json'
  | 'unsupported_media_type'
  | 'payload_too_large'
  | 'method_not_allowed'
  | 'not_found'
  | 'unauthenticated'
  | 'second_factor_required'
  | 'step_up_required'
  | 'invalid_credentials'
  | 'invalid_token'
  | 'totp_not_set_up'
  | 'totp_already_enabled'
  | 'totp_not_enabled'
  | 'invalid_code'
  | 'code_already_used'
  | 'challenge_invalid'
  | 'recovery_link_invalid'
  | 'too_many_attempts'
  | 'second_factor_locked'
  | 'throttled'
  | 'unavailable'

/** What a refusal may add to its code. Never a secret, a code or a token. */
export interface RefusalDetails {
  /** Seconds until the same call may succeed. */
  retryAfterSeconds?: number
  /** With a wrong code: further ones that are judged before one has to wait. */
  attemptsLeft?: number
  /** With a wrong code that would be right at another time: how far the app's clock is ahead; negative: behind. */
  clockOffsetSeconds?: number
  /** Field name → what is wrong with it, for people. */
  fields?: Readonly<Record<string, readonly string[]>>
  /** With `step_up_required`: how old the second factor may be. */
  maxAgeSeconds?: number
  /** With `throttled`: the rate that was exceeded. */
  rate?: Rate
  /** What went wrong underneath, for the operator's log; never sent to a client. */
  cause?: unknown
}

/** A refusal: the request was understood and the answer is no. A bug in the host's code is a TypeError or RangeError. */
export class TotpError extends Error {
  override readonly name = 'TotpError'
  readonly code: ErrorCode
  readonly retryAfterSeconds: number | undefined
  readonly attemptsLeft: number | undefined
  readonly clockOffsetSeconds: number | undefined
  readonly fields: Readonly<Record<string, readonly string[]>> | undefined
  readonly maxAgeSeconds: number | undefined
  readonly rate: Rate | undefined

  constructor(code: ErrorCode, { cause, ...details }: RefusalDetails = {}) {
    super(code, cause === undefined ? undefined : { cause })
    this.code = code
    this.retryAfterSeconds = details.retryAfterSeconds
    this.attemptsLeft = details.attemptsLeft
    this.clockOffsetSeconds = details.clockOffsetSeconds
    this.fields = details.fields
    this.maxAgeSeconds = details.maxAgeSeconds
    this.rate = details.rate
  }
}
