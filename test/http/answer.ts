import { expect } from 'vitest'

/** An answer as every front gives it. */
export interface Answer {
  status: number
  headers: Record<string, string>
  /** Empty where the answer has none. */
  body: Record<string, unknown>
  text: string
  /** `200`, or status and code of a refusal: `400 invalid_code`. */
  outcome: string
}

/** The closed list of refusals, and the status of each. */
export const STATUS_OF: Readonly<Record<string, number>> = {
  validation_failed: 400,
  malformed_json: 400,
  unsupported_media_type: 415,
  payload_too_large: 413,
  method_not_allowed: 405,
  not_found: 404,
  unauthenticated: 401,
  second_factor_required: 403,
  step_up_required: 401,
  invalid_credentials: 401,
  invalid_token: 401,
  totp_not_set_up: 400,
  totp_already_enabled: 400,
  totp_not_enabled: 400,
  invalid_code: 400,
  code_already_used: 400,
  challenge_invalid: 400,
  recovery_link_invalid: 400,
  too_many_attempts: 429,
  second_factor_locked: 403,
  throttled: 429,
  unavailable: 503,
}

export async function answerOf(response: Response): Promise<Answer> {
  const { status } = response
  const headers = Object.fromEntries(response.headers)
  const text = await response.text()
  const isJson = /^application\/(problem\+)?json$/.test(headers['content-type'] ?? '')
  const body = isJson ? (JSON.parse(text) as Record<string, unknown>) : {}
  return { status, headers, body, text, outcome: status < 400 ? String(status) : `${status} ${body.code}` }
}

/** What wire.md says of every answer of ours. */
export function expectRulesOfEveryEndpoint({ status, headers, body, text }: Answer, sent?: unknown): void {
  expect(headers['cache-control']).toBe('no-store')
  if (status === 204) {
    expect(text).toBe('')
    expect(headers).not.toHaveProperty('content-type')
    return
  }
  if (status < 300) {
    expect(headers['content-type']).toBe('application/json')
    return
  }
  expect(headers['content-type']).toBe('application/problem+json')
  const isAboutFields = body.code === 'validation_failed'
  // A judged code is told what is left of the budget; one that is right at another time, how far off the clock is.
  const isJudged = body.code === 'invalid_code' || body.code === 'code_already_used'
  const members = ['code', 'detail', 'status', 'title', 'type', ...(isAboutFields ? ['errors'] : [])]
  if (isJudged) members.push('attempts_left', ...('clock_offset_seconds' in body ? ['clock_offset_seconds'] : []))
  if (body.code === 'invalid_credentials' && 'attempts_left' in body) members.push('attempts_left')
  // Headers cannot be read across origins, so the body tells what they tell.
  expect(body.retry_after_seconds).toBe(headers['retry-after'] && Number(headers['retry-after']))
  if (headers['retry-after'] !== undefined) members.push('retry_after_seconds')
  if ('totp_challenge_token' in body) {
    expect(['too_many_attempts', 'invalid_code']).toContain(body.code)
    members.push('totp_challenge_token')
  }
  expect(Object.keys(body).sort()).toEqual(members.sort())
  expect(STATUS_OF).toHaveProperty(String(body.code), status)
  expect(body.status).toBe(status)
  expect(body.type).toBe(`urn:totp-kit:problem:${body.code}`)
  for (const words of [body.title, body.detail]) expect(words).toMatch(/^[A-Z0-9].{4,}/)
  if (isAboutFields) {
    for (const sentences of Object.values(body.errors as Record<string, string[]>)) {
      expect(sentences.length).toBeGreaterThan(0)
      for (const sentence of sentences) expect(sentence).toMatch(/^[A-Z].+\.$/)
    }
  }
  expectNothingEchoed(text, sent)
}

/** A refusal repeats nothing of what was sent. Short texts could stand in the wording by chance. */
function expectNothingEchoed(text: string, sent: unknown): void {
  if (typeof sent === 'string' && sent.length >= 6) expect(text).not.toContain(sent)
  if (typeof sent === 'object' && sent !== null) {
    for (const part of Object.values(sent)) expectNothingEchoed(text, part)
  }
}

/** `WWW-Authenticate` with one challenge: `Bearer error="…", max_age="…"`. RFC 9110 §11.6.1. */
export function challengeIn({ headers }: Answer): { scheme: string; parameters: Record<string, string> } {
  const [, scheme = '', rest = ''] = /^(\S+)(?: (.*))?$/.exec(headers['www-authenticate'] ?? '') ?? []
  const parameters = Array.from(rest.matchAll(/(\w+)=(?:"([^"]*)"|(\w+))(?:, |$)/g), ([, name, quoted, token]) => [
    name,
    quoted ?? token,
  ])
  expect(rest).toBe(Array.from(rest.matchAll(/\w+=(?:"[^"]*"|\w+)(?:, |$)/g), String).join(''))
  return { scheme, parameters: Object.fromEntries(parameters) }
}

/** The three headers of a 429: seconds to wait, and the structured fields of the IETF draft. */
export function waitIn({ headers }: Answer) {
  const [, name, remaining, reset] = /^"([\w-]+)";r=(\d+);t=(\d+)$/.exec(headers.ratelimit ?? '') ?? []
  const [, policy, quota, window] = /^"([\w-]+)";q=(\d+);w=(\d+)$/.exec(headers['ratelimit-policy'] ?? '') ?? []
  expect(name).toBeDefined()
  expect(name).toBe(policy)
  return {
    retryAfterSeconds: Number(headers['retry-after']),
    remaining: Number(remaining),
    resetSeconds: Number(reset),
    quota: Number(quota),
    windowSeconds: Number(window),
  }
}
