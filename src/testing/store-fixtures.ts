import assert from 'node:assert/strict'
import type { UnixSeconds } from '../clock.ts'
import type { FailureLimits } from '../policy.ts'
import type {
  Attempt,
  AuthenticatorRecord,
  BackupCodeRecord,
  PendingAuthenticator,
  RefreshFamily,
  Settlement,
  SingleUse,
  TotpStore,
  TrustedDeviceRecord,
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
  delayAfter: 5,
  firstDelaySeconds: 30,
  maxDelaySeconds: 15 * 60,
  lockAfter: 100,
  maxPerPeriod: 300,
  periodDays: 30,
}

/** Neither a delay nor a hard cap, so that the total is alone. */
export const totalOf = (total: number): FailureLimits => ({
  ...limits,
  delayAfter: 9999,
  lockAfter: 9999,
  maxPerPeriod: total,
})

/** Many calls at once, dealt out to four connections. */
export async function race<T>(open: Open, call: (store: TotpStore, n: number) => Promise<T>, calls = 50): Promise<T[]> {
  const stores = await Promise.all([open(), open(), open(), open()])
  return Promise.all(Array.from({ length: calls }, (_, n) => call(stores[n % stores.length] as TotpStore, n)))
}

/** Ann's password is changed, for one. */
export const changeCredentials = (store: TotpStore): Promise<void> => store.raiseGeneration('ann', noon)

/**
 * Many calls at once and, amidst them, a change.
 *
 * @returns what `look` finds as soon as the change is made, and what it finds after all calls
 */
export async function changeAmidst<T>(
  open: Open,
  amidst: {
    change(store: TotpStore): Promise<unknown>
    call(store: TotpStore, n: number): Promise<unknown>
    look(store: TotpStore): Promise<T>
  },
): Promise<{ changed: T | null; after: T }> {
  let changed: T | null = null
  await race(open, async (store, n) => {
    if (n === 25) {
      await amidst.change(store)
      changed = await amidst.look(store)
    } else await amidst.call(store, n)
  })
  return { changed, after: await amidst.look(await open()) }
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

/** Enrolls a user as the library does: pending, then live. */
export async function enroll(
  store: TotpStore,
  enrollment: { userId?: string; phone?: string; codes?: readonly string[]; now?: UnixSeconds } = {},
): Promise<Enrolled> {
  const {
    userId = 'ann',
    phone = `phone of ${userId}`,
    codes = ['code-3', 'code-1', 'code-2'],
    now = noon,
  } = enrollment
  const { generation } = await store.getUser(userId)
  const authenticatorId = `${phone}, ${generation}`
  assert.equal(await store.putPending(userId, pending(authenticatorId), generation, limits), true)
  const activation = { userId, authenticatorId, generation, backupCodes: backupCodes(codes), now }
  assert.notEqual(await activate(store, activation), 'refused')
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
    sessionDigest: null,
    ...differing,
  }
}

/** What a pending authenticator is handed out as: unused, where nothing else is said. */
export function recordOf(
  { expiresAt: _, sessionDigest: __, ...pending }: PendingAuthenticator,
  differing: Partial<AuthenticatorRecord> = {},
): AuthenticatorRecord {
  return { ...pending, lastUsedAt: null, driftSteps: 0, resyncStep: null, ...differing }
}

/** Puts one more live authenticator beside those that a user has, up to five. */
export async function add(
  store: TotpStore,
  user: Enrolled,
  authenticatorId: string,
  differing: Partial<Pick<PendingAuthenticator, 'createdAt'> & Pick<Activation, 'step' | 'now'>> = {},
): Promise<Enrolled> {
  const { createdAt = noon - 60, ...activation } = differing
  const { userId, generation } = user
  await store.putPending(userId, pending(authenticatorId, { createdAt }), generation, limits)
  const further = { userId, authenticatorId, generation, maxAuthenticators: 5, ...activation }
  assert.equal(await activate(store, further), 'added')
  return { ...user, authenticatorId, generation: generation + 1 }
}

/** The ids of the live authenticators, the oldest first. */
export async function liveOnes(store: TotpStore, userId = 'ann'): Promise<string[]> {
  return (await store.getStatus(userId, noon, limits)).authenticators.map(({ id }) => id)
}

export function backupCodes(digests: readonly string[]): BackupCodeRecord[] {
  return digests.map((digest) => ({ digest, sealedCode: `sealed ${digest}` }))
}

type Activation = Parameters<TotpStore['activatePending']>[0]

/** Activates a pending authenticator; by default Ann's, at noon, without new codes, replacing a live one. */
export async function activate(
  store: TotpStore,
  activation: Partial<Activation> & Pick<Activation, 'authenticatorId' | 'generation'>,
): Promise<string> {
  const usual = { userId: 'ann', step: firstStep, driftSteps: 0, maxAuthenticators: 1, isCounted: false }
  const defaults = { ...usual, backupCodes: null, keepFamilyId: null, now: noon, limits: unlimited }
  return (await store.activatePending({ ...defaults, ...activation })).outcome
}

/** Ann's code of the app at noon, where nothing else is said. */
export function attempt(differing: Partial<Attempt> = {}): Attempt {
  return { userId: 'ann', method: 'totp', against: 'live', token: null, now: noon, limits, ...differing }
}

type Wrong = Partial<Attempt & { generation: number }>

/** A wrong code of Ann's, who has enrolled once, or is about to. */
export function wrong(differing: Wrong = {}): Settlement {
  const { method, against, generation = against === 'pending' ? 0 : 1, ...of } = { ...attempt(differing), ...differing }
  const common = { ...of, generation, family: null }
  switch (method) {
    case 'totp':
      return { ...common, method, match: null, isCounted: false }
    case 'backup_code':
      return { ...common, method, digests: ['no such code'] }
    case 'recovery_password':
      return { ...common, method }
  }
}

/** Enters wrong codes that have to be admitted. */
export async function fail(store: TotpStore, differing: Wrong = {}, times = 1): Promise<void> {
  const { generation } = await store.getUser(differing.userId ?? 'ann')
  for (let n = 1; n <= times; n++) {
    const { outcome } = await store.settleAttempt(wrong({ generation, ...differing }))
    assert.equal(outcome, 'wrong', `attempt ${n} of ${times}`)
  }
}

/** Whether, and until when, one more attempt is refused; leaves one more failure counted when it is not: `wrong`. */
export async function refusedUntil(store: TotpStore, differing: Wrong = {}): Promise<number | string> {
  const { generation: _, ...of } = differing
  const factors = await store.readFactors(attempt(of))
  const { generation } = await store.getUser(differing.userId ?? 'ann')
  const settled = factors.outcome === 'open' ? await store.settleAttempt(wrong({ generation, ...differing })) : factors
  return settled.outcome === 'delayed' ? settled.retryAt : settled.outcome
}

/** Neither a delay nor a limit: wrong codes are all admitted. */
const unlimited = { ...limits, delayAfter: 100_000, lockAfter: 100_000, maxPerPeriod: 100_000 }

export function byStep(
  user: Enrolled,
  step: number,
  differing: Partial<Common & { driftSteps: number; isCounted: boolean }> = {},
): Settlement {
  const { userId, generation, authenticatorId } = user
  const { driftSteps = 0, isCounted = false, ...of } = differing
  const usual = { token: null, family: null, now: noon, limits: unlimited }
  const match = { authenticatorId, step, driftSteps }
  return { userId, generation, method: 'totp', match, isCounted, ...usual, ...of }
}

export function byCode(user: Enrolled, digests: readonly string[], differing: Partial<Common> = {}): Settlement {
  const { userId, generation } = user
  const usual = { token: null, family: null, now: noon, limits: unlimited }
  return { userId, generation, method: 'backup_code', digests, ...usual, ...differing }
}

type Common = Pick<Settlement, 'token' | 'generation' | 'family' | 'now' | 'limits'>

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

/** Raises a family of Ann's, of generation 0, where nothing else is said. */
export function raise(
  store: TotpStore,
  familyId: string,
  differing: Partial<Parameters<TotpStore['raiseFamily']>[0]> = {},
): Promise<boolean> {
  const usual = { userId: 'ann', newTokenId: 'raised', expiresAt: noon + 2 * DAY, generation: 0, now: noon }
  return store.raiseFamily({ familyId, ...usual, ...differing })
}

/** Which of the families are alive. */
export async function alive(store: TotpStore, ids: readonly string[], now = noon): Promise<string[]> {
  const living = await Promise.all(ids.map((id) => store.isFamilyAlive(id, null, now)))
  return ids.filter((_, index) => living[index])
}

/** A device of Ann's, trusted from noon on for a day, with the living token `token of <id>`. */
export function device(id: string, differing: Partial<TrustedDeviceRecord> = {}): TrustedDeviceRecord {
  const times = { createdAt: noon, lastUsedAt: noon, expiresAt: noon + DAY }
  return { id, userId: 'ann', name: 'Laptop', tokenDigest: `token of ${id}`, ...times, ...differing }
}

/** Rotates a device's first token of generation 0, where nothing else is said. */
export function rotateDevice(
  store: TotpStore,
  deviceId: string,
  differing: Partial<Parameters<TotpStore['rotateTrustedDevice']>[0]> = {},
): Promise<'rotated' | 'dead'> {
  const usual = { userId: 'ann', tokenDigest: `token of ${deviceId}`, newTokenDigest: 'next', generation: 0, now: noon }
  return store.rotateTrustedDevice({ deviceId, ...usual, ...differing })
}

/** The ids of the living devices, the newest first. */
export async function devicesOf(store: TotpStore, userId = 'ann', now = noon): Promise<string[]> {
  return (await store.listTrustedDevices(userId, now)).map(({ id }) => id)
}

/** The digests' places in the list whose codes are used; the kit's codes are sealed as `sealed <digest>`. */
export async function usedCodes(store: TotpStore, userId = 'ann'): Promise<string[]> {
  const codes = await store.listBackupCodes(userId)
  return codes
    .filter(({ usedAt }) => usedAt !== null)
    .map(({ sealedCode }) => String(sealedCode).slice('sealed '.length))
}
