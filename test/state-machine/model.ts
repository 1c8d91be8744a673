import assert from 'node:assert/strict'
import type { Phone } from 'totp-kit/testing'

/** What the model knows of one authenticator. */
export interface ModelPhone {
  name: string
  phone: Phone
  lastStep: number
  drift: number
  far: number | null
}

/** What must be true of a user, by the rules of design.md and nothing of the code. */
export interface ModelUser {
  id: string
  username: string
  password: string
  email: string
  /** Raised by every change of factors or credentials; whatever carries an older one is dead. */
  generation: number
  /** The first second from which a proof counts. */
  changedAt: number
  enabled: boolean
  live: ModelPhone[]
  pending: (ModelPhone & { expiresAt: number }) | null
  unusedCodes: Set<string>
  failures: Record<'totp' | 'backup_code' | 'recovery_password', { consecutive: number; blockedUntil: number }>
}

export interface ModelToken {
  user: ModelUser
  generation: number
  expiresAt: number
  /** Used up, cancelled or replaced. */
  dead: boolean
}

export interface ModelSession {
  user: ModelUser
  access: string
  accessExpiresAt: number
  refresh: string
  family: ModelFamily
  /** When a second factor was proved; null: never. */
  verifiedAt: number | null
  /** The user's when the access token was made. */
  generation: number
}

export interface ModelFamily {
  generation: number
  alive: boolean
  living: string
}

export const STEP = 30
const WINDOW = 1
const MOST_DRIFT = 10

/** A code that is right by the model: whose, of which step. Judging it moves what the model remembers. */
export function judge(phones: readonly ModelPhone[], code: string, now: number) {
  const stepNow = Math.floor(now / STEP)
  const matches = (phone: ModelPhone, from: number, to: number) => {
    let matched: number | null = null
    for (let step = from; step <= to; step++) if (phone.phone.codeAt(step * STEP) === code) matched = step
    return matched
  }
  for (const phone of phones) {
    const step = matches(phone, stepNow + phone.drift - WINDOW, stepNow + phone.drift + WINDOW)
    if (step !== null && step !== phone.far) return { phone, step }
  }
  for (const phone of phones) {
    const step = matches(phone, stepNow - MOST_DRIFT, stepNow + MOST_DRIFT)
    if (step === null) continue
    if (phone.far === step - 1) return { phone, step }
    phone.far = Math.max(phone.far ?? step, step)
    return null
  }
  return null
}

export function spend({ phone, step }: { phone: ModelPhone; step: number }, now: number): void {
  assert.ok(step > phone.lastStep, `step ${step} of ${phone.name} was spent before`)
  phone.lastStep = step
  if (phone.far !== null && phone.far <= step) phone.far = null
  phone.drift = Math.max(-MOST_DRIFT, Math.min(MOST_DRIFT, step - Math.floor(now / STEP)))
}

export function isBlocked(user: ModelUser, kind: keyof ModelUser['failures'], now: number): boolean {
  const { consecutive, blockedUntil } = user.failures[kind]
  return consecutive >= 100 || blockedUntil > now
}

/** One more judged failure. It must not have been judged while the user was blocked. */
export function fail(user: ModelUser, kind: keyof ModelUser['failures'], now: number): void {
  assert.ok(!isBlocked(user, kind, now), `a ${kind} of ${user.username} was judged while they had to wait`)
  const count = user.failures[kind]
  count.consecutive++
  const further = count.consecutive - 5
  count.blockedUntil = further < 0 ? 0 : now + Math.min(900, 30 * 2 ** further)
}

export function succeed(user: ModelUser, kind: keyof ModelUser['failures']): void {
  user.failures[kind] = { consecutive: 0, blockedUntil: 0 }
}

export function clearFailures(user: ModelUser): void {
  for (const kind of Object.keys(user.failures) as (keyof ModelUser['failures'])[]) succeed(user, kind)
}

/** A change of factors or credentials at `now`; of the sessions one may be kept. */
export function raise(
  user: ModelUser,
  now: number,
  families: Iterable<ModelFamily & { user: ModelUser }>,
  kept: ModelFamily | null,
): void {
  for (const family of families) {
    if (family.user !== user) continue
    if (family === kept && family.generation === user.generation) family.generation++
    else family.alive = false
  }
  user.pending = null
  user.generation++
  user.changedAt = Math.max(user.changedAt, now) + 1
}
