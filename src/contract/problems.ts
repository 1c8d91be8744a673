import type { ErrorCode } from '../errors.ts'

/** How a refusal looks on the wire. RFC 9457. */
export interface ProblemType {
  status: number
  title: string
  /** A sentence for people, safe to show. */
  detail: string
}

/** Where a problem type is explained; the code follows. Stable: clients may compare it. RFC 9457 §3.1.1. */
export const PROBLEM_TYPE_BASE = 'urn:totp-kit:problem:'

export const problems: Readonly<Record<ErrorCode, ProblemType>> = {
  validation_failed: { status: 400, title: 'Validation failed', detail: 'Some fields need a look.' },
  malformed_json: { status: 400, title: 'Malformed body', detail: 'The body is not a JSON object.' },
  unsupported_media_type: {
    status: 415,
    title: 'Unsupported media type',
    detail: 'Send application/json or application/x-www-form-urlencoded.',
  },
  payload_too_large: { status: 413, title: 'Body too large', detail: 'The body is larger than 16 KiB.' },
  method_not_allowed: { status: 405, title: 'Method not allowed', detail: 'This path does not know that method.' },
  not_found: { status: 404, title: 'Not found', detail: 'There is nothing here.' },
  unauthenticated: { status: 401, title: 'Not logged in', detail: 'Log in first.' },
  step_up_required: {
    status: 401,
    title: 'A fresh second factor is needed',
    detail: 'Confirm with a code of your authenticator app or with a backup code.',
  },
  invalid_credentials: { status: 401, title: 'Not logged in', detail: 'User name or password is wrong.' },
  invalid_token: { status: 401, title: 'Invalid token', detail: 'The token is not valid any more. Log in again.' },
  totp_not_set_up: {
    status: 400,
    title: 'Two-factor authentication is not set up',
    detail: 'Set up two-factor authentication first.',
  },
  totp_already_enabled: {
    status: 400,
    title: 'Two-factor authentication is on already',
    detail: 'There is no set-up that waits for a code.',
  },
  totp_not_enabled: {
    status: 400,
    title: 'Two-factor authentication is not on yet',
    detail: 'Confirm the set-up with a code of your authenticator app first.',
  },
  invalid_code: { status: 400, title: 'Wrong code', detail: 'That code is not right.' },
  code_already_used: {
    status: 400,
    title: 'Code already used',
    detail: 'That code has been used. Wait for the next one.',
  },
  challenge_invalid: {
    status: 400,
    title: 'Log-in expired',
    detail: 'This log-in has expired or was finished already. Log in again.',
  },
  recovery_link_invalid: {
    status: 400,
    title: 'Recovery link not valid',
    detail: 'This link has expired or was used already. Ask for a new one.',
  },
  too_many_attempts: {
    status: 429,
    title: 'Too many wrong attempts',
    detail: 'Too many wrong attempts. Wait before you try again.',
  },
  second_factor_locked: {
    status: 403,
    title: 'Second factor locked',
    detail: 'Too many wrong attempts. Use a backup code, or ask support.',
  },
  throttled: { status: 429, title: 'Too many requests', detail: 'Too many requests. Wait before you try again.' },
  unavailable: { status: 503, title: 'Unavailable', detail: 'This cannot be done right now. Try again shortly.' },
}
