/** How a refusal looks on the wire. RFC 9457. */
export interface ProblemType {
  status: number
  title: string
  /** A sentence for people, safe to show. */
  detail: string
}

/** Where a problem type is explained; the code follows. Stable: clients may compare it. RFC 9457 §3.1.1. */
export const PROBLEM_TYPE_BASE = 'urn:totp-kit:problem:'

export const problems = {
  validation_failed: { status: 400, title: 'Invalid fields', detail: 'Some fields are invalid.' },
  malformed_json: {
    status: 400,
    title: 'Malformed request body',
    detail: 'The request body is not a valid JSON object.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'Unsupported media type',
    detail: 'Send uncompressed UTF-8 as application/json or application/x-www-form-urlencoded.',
  },
  payload_too_large: {
    status: 413,
    title: 'Request body too large',
    detail: 'The request body is larger than 16 KiB.',
  },
  method_not_allowed: {
    status: 405,
    title: 'Method not allowed',
    detail: 'This endpoint does not support that method.',
  },
  not_found: { status: 404, title: 'Not found', detail: 'Not found.' },
  unauthenticated: { status: 401, title: 'Not logged in', detail: 'Log in first.' },
  second_factor_required: {
    status: 403,
    title: 'Two-factor authentication required',
    detail: 'Set up two-factor authentication first, then try again.',
  },
  step_up_required: {
    status: 401,
    title: 'Verify your second factor again',
    detail: 'Enter a code from your authenticator app or a backup code to continue.',
  },
  invalid_credentials: { status: 401, title: 'Incorrect credentials', detail: 'Incorrect username or password.' },
  invalid_token: { status: 401, title: 'Invalid token', detail: 'Your session has ended. Log in again.' },
  totp_not_set_up: {
    status: 400,
    title: 'Two-factor authentication is not set up',
    detail: 'Set up two-factor authentication first.',
  },
  totp_already_enabled: {
    status: 400,
    title: 'Two-factor authentication is already on',
    detail: 'There is no setup to confirm.',
  },
  totp_not_enabled: {
    status: 400,
    title: 'Two-factor authentication is not on yet',
    detail: 'Confirm the setup with a code from your authenticator app first.',
  },
  invalid_code: { status: 400, title: 'Incorrect code', detail: 'Incorrect code.' },
  code_already_used: {
    status: 400,
    title: 'Code already used',
    detail: 'This code was already used. Wait for the next code in your authenticator app.',
  },
  challenge_invalid: {
    status: 400,
    title: 'Login expired',
    detail: 'This login has expired or was already completed. Log in again.',
  },
  recovery_link_invalid: {
    status: 400,
    title: 'Recovery link not valid',
    detail: 'This link has expired, was already used, or was canceled. Request a new one.',
  },
  too_many_attempts: {
    status: 429,
    title: 'Too many incorrect attempts',
    detail: 'Too many incorrect attempts. Wait before you try again.',
  },
  second_factor_locked: {
    status: 403,
    title: 'Second factor locked',
    detail: 'Too many incorrect attempts. Use a different kind of code, or contact support.',
  },
  throttled: { status: 429, title: 'Too many requests', detail: 'Too many requests. Wait before you try again.' },
  unavailable: {
    status: 503,
    title: 'Service unavailable',
    detail: 'The service is temporarily unavailable. Try again shortly.',
  },
} as const satisfies Readonly<Record<string, ProblemType>>

/** Why a request is refused: the closed list. */
export type ErrorCode = keyof typeof problems
