import assert from 'node:assert/strict'
import { type App, STEP } from './app.ts'

/**
 * The rules as SECURITY.md, the threat model and the wire contract say them, and nothing of the code. Times are Unix
 * seconds by the clock of the process that was asked.
 */

const FRESH_SECONDS = 300
export const CHALLENGE_SECONDS = 120
/** A challenge that delays have held up lives on, for so long after the password. */
const CHAIN_SECONDS = 30 * 60
/** How much longer than the wait. */
const GRACE_SECONDS = 60
export const PENDING_SECONDS = 15 * 60
export const LINK_SECONDS = 3600
export const DEVICE_SECONDS = 30 * 86_400
export const ACCESS_SECONDS = 300
export const REFRESH_SECONDS = 86_400
/** A sealed token may come from a clock that is so far ahead (Fernet spec). */
const SKEW_SECONDS = 60
const WINDOW = 1
const MAX_DRIFT = 10
export const BEFORE_DELAY = 5
const FIRST_DELAY = 30
export const MAX_DELAY = 900
export const HARD_CAP = 100
const TOTAL = 300
const TOTAL_SECONDS = 30 * 86_400

/** What the model knows of one authenticator. */
export interface ModelPhone {
  name: string
  app: App
  createdAt: number
  lastStep: number
  drift: number
  far: number | null
}

/** `beganIn`: the session, family or enrollment token that may have the same secret again; null: none. */
type ModelPending = ModelPhone & { expiresAt: number; beganIn: unknown }

export type Kind = 'totp' | 'backup_code' | 'recovery_password'

/** Failures of one kind. `perhaps`: attempts of which the answer does not tell whether they were counted. */
interface Count {
  consecutive: number
  blockedUntil: number
  failedAt: number[]
  perhaps: number
}

export interface ModelUser {
  id: string
  username: string
  password: string
  /** The first asks for recovery; each is told. */
  emails: [string, string]
  /** The host's rule: no session without a second factor. */
  mustEnroll: boolean
  /** Raised by every change of factors or credentials; whatever carries an older one is dead. */
  generation: number
  /** The first second from which a proof counts. */
  changedAt: number
  enabled: boolean
  live: ModelPhone[]
  pending: ModelPending | null
  /** One had expired before the clock was set back: the store may have deleted it or not. */
  mayHavePending: boolean
  unusedCodes: Set<string>
  failures: Record<Kind, Count>
  /** Recovery mails in the hour that began with the first of them. `isUnsure`: the store may have forgotten them. */
  mails: { sent: number; until: number; isUnsure: boolean }
  /** Whether the attacker of this world has the password. */
  isPasswordKnown: boolean
}

export function newUser(username: string, isPasswordKnown: boolean): ModelUser {
  return {
    id: `id of ${username}`,
    username,
    password: `the password of ${username}`,
    emails: [`${username}@example.com`, `${username}@home.example`],
    mustEnroll: false,
    generation: 0,
    changedAt: 0,
    enabled: false,
    live: [],
    pending: null,
    mayHavePending: false,
    unusedCodes: new Set(),
    failures: { totp: noFailures(), backup_code: noFailures(), recovery_password: noFailures() },
    mails: { sent: 0, until: 0, isUnsure: false },
    isPasswordKnown,
  }
}

/** A challenge, link, enrollment token or token of a trusted device. */
export interface ModelToken {
  user: ModelUser
  generation: number
  sealedAt: number
  expiresAt: number
  /** Used up, canceled or replaced. */
  dead: boolean
}

export function opens({ sealedAt, expiresAt }: ModelToken, now: number): boolean {
  return now <= expiresAt && sealedAt <= now + SKEW_SECONDS
}

export function isGood(token: ModelToken, now: number): boolean {
  return !token.dead && opens(token, now) && token.generation === token.user.generation
}

export interface ModelChallenge extends ModelToken {
  amr: readonly string[]
  /** When the password was proved. All tokens of one challenge share it, and one success ends them all. */
  login: { at: number }
}

/** Until when the token lives that a refusal renews; null: it would not outlive the wait, so there is none. */
export function renewedUntil({ expiresAt, login }: ModelChallenge, retryAt: number): number | null {
  const until = Math.max(expiresAt, Math.min(retryAt + GRACE_SECONDS, login.at + CHAIN_SECONDS))
  return until > retryAt ? until : null
}

/** Whether so few have failed that the total of 30 days holds nobody yet. */
export function isFarFromTotal({ failures }: ModelUser, kind: Kind): boolean {
  const { failedAt, perhaps } = failures[kind]
  return failedAt.length + perhaps < TOTAL
}

export interface ModelLink extends ModelToken {
  uid: string
  worksFrom: number
  canConfirm: boolean
}

export interface ModelDevice extends ModelToken {
  /** Of all tokens that the device has had, the one that is alive. */
  chain: { living: string }
}

export interface ModelFamily {
  user: ModelUser
  generation: number
  alive: boolean
  living: string
  expiresAt: number
}

/** `jwt`: our token pairs. The others are the host's: in a table that it can end, or in a cookie that it cannot. */
export interface ModelSession {
  kind: 'jwt' | 'stateful' | 'stateless'
  user: ModelUser
  /** The header `Authorization` of its requests. */
  credential: string
  /** Null: the host sets no end. */
  expiresAt: number | null
  /** When a second factor was proved, and under which generation; null: never. */
  proved: { at: number; generation: number } | null
  /** Of `jwt` only. */
  tokens: { refresh: string; refreshUntil: number; family: ModelFamily } | null
  /** Ended by the host. */
  ended: boolean
}

/** Whether a session has proved a second factor lately and for the factors as they are. */
export function isFresh({ proved, user }: ModelSession, now: number, maxAge = FRESH_SECONDS): boolean {
  return (
    proved !== null &&
    proved.generation === user.generation &&
    proved.at >= now - maxAge &&
    proved.at <= Math.max(now, user.changedAt) &&
    user.enabled
  )
}

/** A second factor that is proved now; never before the second from which proofs count. */
export function provedNow({ generation, changedAt }: ModelUser, now: number): ModelSession['proved'] {
  return { at: Math.max(now, changedAt), generation }
}

/** The code's authenticator and step, when it is right by the model. Judging moves what the model remembers. */
export function judge(phones: readonly ModelPhone[], code: string, now: number) {
  const verdict = verdictOf(phones, code, now)
  if (verdict?.isFar) {
    // A step that was told of stays told of: the later one is kept.
    verdict.phone.far = Math.max(verdict.phone.far ?? verdict.step, verdict.step)
    return null
  }
  return verdict
}

/** `isFar`: not good by itself. `isOffTime`: outside the window, so it counts as wrong before it is looked for elsewhere. */
export function verdictOf(phones: readonly ModelPhone[], code: string, now: number) {
  const stepNow = Math.floor(now / STEP)
  const matches = ({ app }: ModelPhone, from: number, to: number) => {
    for (let step = to; step >= from; step--) if (app.codeOf(step) === code) return step
    return null
  }
  const inOrder = [...phones].sort((a, b) => a.createdAt - b.createdAt)
  for (const phone of inOrder) {
    const step = matches(phone, stepNow + phone.drift - WINDOW, stepNow + phone.drift + WINDOW)
    if (step !== null && step !== phone.far) return { phone, step, isFar: false, isOffTime: false }
  }
  for (const phone of inOrder) {
    const step = matches(phone, stepNow - MAX_DRIFT, stepNow + MAX_DRIFT)
    if (step !== null) return { phone, step, isFar: phone.far !== step - 1, isOffTime: true }
  }
  return null
}

export function spend({ phone, step }: { phone: ModelPhone; step: number }, now: number): void {
  assert.ok(step > phone.lastStep, `step ${step} of ${phone.name} was spent before`)
  phone.lastStep = step
  if (phone.far !== null && phone.far <= step) phone.far = null
  phone.drift = Math.max(-MAX_DRIFT, Math.min(MAX_DRIFT, step - Math.floor(now / STEP)))
}

function noFailures(): Count {
  return { consecutive: 0, blockedUntil: 0, failedAt: [], perhaps: 0 }
}

/**
 * Whether one more attempt is refused. `locked`: time does not help. `perhaps`: between what the total of 30 days must
 * stop and what it may stop, which is up to 60 days.
 */
export function blockOf(user: ModelUser, kind: Kind, now: number): 'free' | 'delayed' | 'locked' | 'total' | 'perhaps' {
  const { consecutive, blockedUntil, failedAt, perhaps } = user.failures[kind]
  if (consecutive >= HARD_CAP) return 'locked'
  if (blockedUntil > now) return 'delayed'
  const since = (seconds: number) => failedAt.filter((at) => at > now - seconds).length
  if (failedAt.length + perhaps < TOTAL) return 'free'
  if (since(TOTAL_SECONDS) >= TOTAL) return 'total'
  return since(2 * TOTAL_SECONDS) + perhaps >= TOTAL ? 'perhaps' : 'free'
}

/** One more judged failure. It must not have been judged while the user was blocked. */
export function fail(user: ModelUser, kind: Kind, now: number): void {
  const block = blockOf(user, kind, now)
  assert.ok(block === 'free' || block === 'perhaps', `a ${kind} of ${user.username} was judged while ${block}`)
  const count = user.failures[kind]
  count.consecutive++
  count.failedAt.push(now)
  const further = count.consecutive - BEFORE_DELAY
  count.blockedUntil = further < 0 ? 0 : now + Math.min(MAX_DELAY, FIRST_DELAY * 2 ** further)
}

export function succeed(user: ModelUser, kind: Kind): void {
  Object.assign(user.failures[kind], { consecutive: 0, blockedUntil: 0 })
}

export function unlock(user: ModelUser): void {
  for (const kind of Object.keys(user.failures) as Kind[]) user.failures[kind] = noFailures()
}

/** Without a second factor nobody is kept from enrolling for ever: the hard cap goes, the delay stays. */
export function liftLock(user: ModelUser): void {
  for (const count of Object.values(user.failures)) if (count.consecutive >= HARD_CAP) count.consecutive = 0
}

/** A change of factors or credentials. What is of the earlier generation is worth nothing from then on. */
export function raise(user: ModelUser, now: number): void {
  user.pending = null
  user.mayHavePending = false
  user.generation++
  user.changedAt = Math.max(user.changedAt, now) + 1
}

export function switchOff(user: ModelUser): void {
  Object.assign(user, { enabled: false, live: [], unusedCodes: new Set() })
  for (const kind of Object.keys(user.failures) as Kind[]) succeed(user, kind)
}

/** The state without names, times and texts: what is counted as one state. */
export function abstractionOf(user: ModelUser, now: number): string {
  const counts = Object.entries(user.failures).map(([kind, { consecutive }]) => {
    const level = [0, 1, BEFORE_DELAY, 10, HARD_CAP].filter((least) => consecutive >= least).length
    return `${level}${blockOf(user, kind as Kind, now)}`
  })
  const phones = user.live.map(
    ({ drift, far, app, lastStep }) =>
      `${Math.sign(drift)}${far === null ? '' : 'f'}${Math.sign(app.offset)}${lastStep * STEP > now ? '>' : ''}`,
  )
  const flags = [user.enabled, user.mustEnroll, user.pending !== null, user.isPasswordKnown].map(Number).join('')
  return [flags, phones, Math.min(user.unusedCodes.size, 3), ...counts].join('|')
}
