import assert from 'node:assert/strict'
import type { UnixSeconds } from '../clock.ts'
import type { FailureLimits } from '../policy.ts'
import type {
  Attempt,
  BackupCodeRecord,
  PendingAuthenticator,
  RefreshFamily,
  SingleUse,
  Spending,
  TotpStore,
} from '../store/store.ts'

/** Opens one more connection to the storage of the case; in memory, the same store again. */
export type Open = () => Promise<TotpStore>

/** What a store promises of an operation, by the sentence that promises it. */
export type Promises = Record<string, (open: Open) => Promise<void>>

export const DAY = 86_400
/** The first second of a period of 30 days since 1970, where a count in periods turns over. */
export const periodStart = 690 * 30 * DAY
export const noon = periodStart + DAY / 2

/** The library's own limits. */
export const limits: FailureLimits = {
  beforeDelay: 5,
  firstDelaySeconds: 30,
  maxDelaySeconds: 15 * 60,
  hardCap: 100,
  total: 300,
  totalDays: 30,
}

/** Neither a delay nor a hard cap, so that the total is alone. */
export const totalOf = (total: number): FailureLimits => ({ ...limits, beforeDelay: 9999, hardCap: 9999, total })

/** Many calls at once, dealt out to four connections. */
export async function race<T>(open: Open, call: (store: TotpStore, n: number) => Promise<T>, calls = 50): Promise<T[]> {
  const stores = await Promise.all([open(), open(), open(), open()])
  return Promise.all(Array.from({ length: calls }, (_, n) => call(stores[n % stores.length] as TotpStore, n)))
}

/** How often each answer was given. */
export function tally(answers: readonly (string | boolean | { outcome: string })[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const answer of answers) {
    const key = typeof answer === 'object' ? answer.outcome : String(answer)
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}

/** A user whose second factor is on. */
export interface Enrolled {
  userId: string
  generation: number
  authenticatorId: string
  /** The digests of the backup codes. */
  codes: readonly string[]
}

/** The step that the first code spends; the next is free. */
export const firstStep = 1_000_000

/** Enrols a user as the library does: pending, an attempt, live. Leaves no failure counted. */
export async function enrol(
  store: TotpStore,
  enrolment: { userId?: string; phone?: string; codes?: readonly string[]; now?: UnixSeconds } = {},
): Promise<Enrolled> {
  const { userId = 'ann', phone = `phone of ${userId}`, codes = ['code-3', 'code-1', 'code-2'], now = noon } = enrolment
  const { generation } = await store.getUser(userId)
  const authenticatorId = `${phone}, ${generation}`
  assert.equal(await store.putPending(userId, pending(authenticatorId), generation), true)
  await reserve(store, { userId, against: 'pending', now })
  const activation = { userId, authenticatorId, generation, backupCodes: backupCodes(codes), now }
  assert.equal(await activate(store, activation), true)
  return { userId, generation: generation + 1, authenticatorId, codes }
}

export function pending(id: string, differing: Partial<PendingAuthenticator> = {}): PendingAuthenticator {
  return {
    id,
    name: 'Phone',
    sealedSecret: `sealed secret of ${id}`,
    parameters: { algorithm: 'SHA1', digits: 6, periodSeconds: 30 },
    createdAt: noon - 60,
    expiresAt: noon + 15 * 60,
    ...differing,
  }
}

export function backupCodes(digests: readonly string[]): BackupCodeRecord[] {
  return digests.map((digest) => ({ digest, sealedCode: `sealed ${digest}` }))
}

type Activation = Parameters<TotpStore['activatePending']>[0]

/** Activates a pending authenticator of a user; by default Ann's, at noon, without new codes. */
export function activate(
  store: TotpStore,
  activation: Partial<Activation> & Pick<Activation, 'authenticatorId' | 'generation'>,
): Promise<boolean> {
  const usual = { userId: 'ann', step: firstStep, backupCodes: null, keepFamilyId: null, now: noon }
  return store.activatePending({ ...usual, ...activation })
}

/** Ann's code of the app at noon, where nothing else is said. */
export function attempt(differing: Partial<Attempt> = {}): Attempt {
  return { userId: 'ann', method: 'totp', against: 'live', challenge: null, now: noon, limits, ...differing }
}

/** Reserves attempts that have to be reserved; each one is a failure until it is spent. */
export async function reserve(store: TotpStore, differing: Partial<Attempt> = {}, times = 1): Promise<void> {
  for (let n = 1; n <= times; n++) {
    const { outcome } = await store.reserveAttempt(attempt(differing))
    assert.equal(outcome, 'reserved', `attempt ${n} of ${times}`)
  }
}

/** Whether, and until when, one more attempt is refused; leaves one more counted when it is not. */
export async function refusedUntil(store: TotpStore, differing: Partial<Attempt> = {}): Promise<number | string> {
  const reservation = await store.reserveAttempt(attempt(differing))
  return reservation.outcome === 'delayed' ? reservation.retryAt : reservation.outcome
}

export function byStep(user: Enrolled, step: number, differing: Partial<Common> = {}): Spending {
  const { userId, generation, authenticatorId } = user
  return { userId, challenge: null, generation, now: noon, method: 'totp', authenticatorId, step, ...differing }
}

export function byCode(user: Enrolled, digests: readonly string[], differing: Partial<Common> = {}): Spending {
  const { userId, generation } = user
  return { userId, challenge: null, generation, now: noon, method: 'backup_code', digests, ...differing }
}

type Common = Pick<Spending, 'challenge' | 'generation' | 'now'>

export function challengeOf(user: Enrolled, tokenId = 'challenge', differing: Partial<SingleUse> = {}): SingleUse {
  return { tokenId, generation: user.generation, expiresAt: noon + 120, ...differing }
}

/** Begins a family with the living token `token of <id>`. */
export async function begin(
  store: TotpStore,
  id: string,
  { generation = 0, ...differing }: Partial<RefreshFamily> & { generation?: number } = {},
): Promise<void> {
  const family = { id, userId: 'ann', tokenId: `token of ${id}`, expiresAt: noon + DAY, ...differing }
  await store.openFamily(family, generation, noon)
}

/** Rotates a family's first token, where nothing else is said. */
export function rotate(
  store: TotpStore,
  familyId: string,
  differing: Partial<Parameters<TotpStore['rotateFamily']>[0]> = {},
): Promise<'rotated' | 'dead'> {
  const usual = { tokenId: `token of ${familyId}`, newTokenId: 'next', expiresAt: noon + 2 * DAY, now: noon }
  return store.rotateFamily({ familyId, ...usual, ...differing })
}

/** Which of the families are alive. */
export async function alive(store: TotpStore, ids: readonly string[], now = noon): Promise<string[]> {
  const living = await Promise.all(ids.map((id) => store.isFamilyAlive(id, null, now)))
  return ids.filter((_, index) => living[index])
}

/** The digests' places in the list whose codes are used; the kit's codes are sealed as `sealed <digest>`. */
export async function usedCodes(store: TotpStore, userId = 'ann'): Promise<string[]> {
  const codes = await store.listBackupCodes(userId)
  return codes
    .filter(({ usedAt }) => usedAt !== null)
    .map(({ sealedCode }) => String(sealedCode).slice('sealed '.length))
}
