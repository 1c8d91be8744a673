/** What the server answered instead of success, or why it could not answer. `detail` is the server's own sentence. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: string
  readonly status: number
  readonly detail: string | null
  readonly fieldErrors: Record<string, string[]>
  /** Null when the server did not say. */
  readonly retryAfterSeconds: number | null
  /** With a wrong code: how many more can be tried before a wait; null when the server did not say. */
  readonly attemptsLeft: number | null
  /** With a wrong code: how far the app's clock is ahead, when that is why; negative: behind. */
  readonly clockOffsetSeconds: number | null
  /** In answer to a challenge: replaces the token that was sent, and lives until the wait is over. */
  readonly renewedChallenge: { token: string; expiresInSeconds: number | null } | null

  constructor(code: string, given: Partial<Omit<Refusal, 'code'>> = {}) {
    super(code)
    this.code = code
    this.status = given.status ?? 0
    this.detail = given.detail ?? null
    this.fieldErrors = given.fieldErrors ?? {}
    this.retryAfterSeconds = given.retryAfterSeconds ?? null
    this.attemptsLeft = given.attemptsLeft ?? null
    this.clockOffsetSeconds = given.clockOffsetSeconds ?? null
    this.renewedChallenge = given.renewedChallenge ?? null
  }
}

/** Reads a problem document (RFC 9457). A proxy in between may answer with something else: `server_failed` then. */
export async function readRefusal(response: Response): Promise<Refusal> {
  const problem = (await response.json().catch(() => ({}))) as {
    code?: string
    detail?: string
    errors?: Record<string, string[]>
    attempts_left?: number
    clock_offset_seconds?: number
    retry_after_seconds?: number
    totp_challenge_token?: string
    expires_in?: number
  }
  const header = Number.parseInt(response.headers.get('Retry-After') ?? '', 10)
  const { totp_challenge_token: token, expires_in: expiresInSeconds = null } = problem
  return new Refusal(problem.code ?? 'server_failed', {
    status: response.status,
    detail: problem.detail ?? null,
    fieldErrors: problem.errors ?? {},
    retryAfterSeconds: problem.retry_after_seconds ?? (Number.isNaN(header) ? null : header),
    attemptsLeft: problem.attempts_left ?? null,
    clockOffsetSeconds: problem.clock_offset_seconds ?? null,
    renewedChallenge: token === undefined ? null : { token, expiresInSeconds },
  })
}
