import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'
import type { FailureLimits } from '../policy.ts'
import { type FailureCount, periodOf, refusalOf } from './failures.ts'
import { isOutdated } from './single-use.ts'
import type {
  AuthenticatorRecord,
  BackupCodeRecord,
  PendingAuthenticator,
  RefreshFamily,
  SingleUse,
  TotpStore,
  UserRecord,
} from './store.ts'

interface User extends UserRecord {
  live: (AuthenticatorRecord & { lastStep: number }) | null
  pending: PendingAuthenticator | null
  codes: (BackupCodeRecord & { usedAt: UnixSeconds | null })[]
  failures: Map<SecondFactorMethod, FailureCount>
}

/**
 * A store in this process's memory: for tests and for trying things out. Everything is gone with the process, and two
 * processes know nothing of each other. Each operation runs without a pause, which makes it atomic.
 */
export function memoryStore(): TotpStore {
  const users = new Map<string, User>()
  const burnt = new Map<string, UnixSeconds>()
  const families = new Map<string, RefreshFamily & { generation: number }>()
  const windows = new Map<string, { calls: number; endsAt: UnixSeconds }>()
  let canary: string | null = null

  const find = (userId: string): User => users.get(userId) ?? newUser()
  const keep = (userId: string): User => {
    const user = find(userId)
    users.set(userId, user)
    return user
  }
  const raise = (userId: string, now: UnixSeconds, keepFamilyId: string | null) => {
    const user = keep(userId)
    for (const family of families.values()) {
      if (family.userId !== userId) continue
      if (family.id === keepFamilyId && family.generation === user.generation) family.generation++
      else families.delete(family.id)
    }
    user.generation++
    user.changedAt = now
  }
  const isSpent = (token: SingleUse, user: User, now: UnixSeconds) =>
    burnt.has(token.tokenId) || isOutdated(token, user, now)
  const isAlive = (family: (RefreshFamily & { generation: number }) | undefined, now: UnixSeconds) =>
    family !== undefined && family.expiresAt > now && family.generation === find(family.userId).generation

  const operations: Operations = {
    getUser: (userId) => recordOf(find(userId)),

    getStatus(userId, now, limits) {
      const user = find(userId)
      const refusal = refusalOf(turn(user.failures.get('totp'), now, limits), now, limits)
      return {
        user: recordOf(user),
        authenticators: user.live ? [authenticatorOf(user.live)] : [],
        backupCodesRemaining: user.codes.filter((code) => code.usedAt === null).length,
        hasPending: user.pending !== null && user.pending.expiresAt > now,
        lockedUntil: refusal === null ? null : refusal.outcome === 'locked' ? 'forever' : refusal.retryAt,
      }
    },

    reserveAttempt({ userId, method, against, challenge, now, limits }) {
      const user = find(userId)
      if (challenge && isSpent(challenge, user, now)) return { outcome: 'stale' }
      const { live, pending } = user
      const authenticator =
        against === 'live' ? live : pending && pending.expiresAt > now ? { ...pending, lastUsedAt: null } : null
      if (authenticator === null) return { outcome: 'absent' }
      const count = turn(user.failures.get(method), now, limits)
      const refusal = refusalOf(count, now, limits)
      if (refusal) return refusal
      user.failures.set(method, oneMore(count, now, limits))
      return { outcome: 'reserved', user: recordOf(user), authenticator: authenticatorOf(authenticator) }
    },

    spend(spending) {
      const user = find(spending.userId)
      const { challenge, generation, now } = spending
      if (generation !== user.generation || (challenge && isSpent(challenge, user, now))) return { outcome: 'stale' }
      if (spending.method === 'totp') {
        const { live } = user
        if (live?.id !== spending.authenticatorId || live.lastStep >= spending.step) return { outcome: 'refused' }
        live.lastStep = spending.step
        live.lastUsedAt = now
      } else {
        const code = user.codes.find(({ digest, usedAt }) => usedAt === null && spending.digests.includes(digest))
        if (!code) return { outcome: 'refused' }
        code.usedAt = now
      }
      if (challenge) burnt.set(challenge.tokenId, challenge.expiresAt)
      for (const [tokenId, expiresAt] of burnt) if (expiresAt < now) burnt.delete(tokenId)
      const failures = user.failures.get(spending.method)
      if (failures) giveBack(failures)
      return { outcome: 'spent', backupCodesRemaining: user.codes.filter(({ usedAt }) => usedAt === null).length }
    },

    putPending(userId, pending, generation) {
      if (find(userId).generation !== generation) return false
      keep(userId).pending = { ...pending, parameters: { ...pending.parameters } }
      return true
    },

    activatePending({ userId, authenticatorId, step, generation, backupCodes, keepFamilyId, now }) {
      const user = find(userId)
      const { pending } = user
      if (generation !== user.generation || pending?.id !== authenticatorId || pending.expiresAt <= now) return false
      user.live = { ...pending, lastUsedAt: now, lastStep: step }
      user.pending = null
      user.confirmedAt ??= now
      if (backupCodes) user.codes = backupCodes.map((code) => ({ ...code, usedAt: null }))
      const failures = user.failures.get('totp')
      if (failures) giveBack(failures)
      raise(userId, now, keepFamilyId)
      return true
    },

    removeFactors({ userId, generation, keepFamilyId, now, limits }) {
      const user = find(userId)
      if (generation !== user.generation) return false
      user.pending = null
      for (const failures of user.failures.values()) {
        if (user.confirmedAt === null && failures.consecutive < limits.hardCap) continue
        failures.consecutive = 0
        if (user.confirmedAt !== null) failures.blockedUntil = 0
      }
      if (user.confirmedAt === null) return true
      user.live = null
      user.codes = []
      user.confirmedAt = null
      raise(userId, now, keepFamilyId)
      return true
    },

    replaceBackupCodes(userId, codes, generation) {
      const user = find(userId)
      if (user.confirmedAt === null || user.generation !== generation) return false
      user.codes = codes.map((code) => ({ ...code, usedAt: null }))
      return true
    },

    listBackupCodes: (userId) => find(userId).codes.map(({ sealedCode, usedAt }) => ({ sealedCode, usedAt })),

    raiseGeneration: (userId, now) => raise(userId, now, null),

    isUnburnt: (tokenId) => !burnt.has(tokenId),

    openFamily(family, generation, now) {
      for (const [id, { expiresAt }] of families) if (expiresAt <= now) families.delete(id)
      families.set(family.id, { ...family, generation })
    },

    rotateFamily({ familyId, tokenId, newTokenId, expiresAt, now }) {
      const family = families.get(familyId)
      if (!family || !isAlive(family, now) || family.tokenId !== tokenId) {
        families.delete(familyId)
        return 'dead'
      }
      family.tokenId = newTokenId
      family.expiresAt = expiresAt
      return 'rotated'
    },

    isFamilyAlive(familyId, tokenId, now) {
      const family = families.get(familyId)
      return isAlive(family, now) && (tokenId === null || family?.tokenId === tokenId)
    },

    endFamily(familyId) {
      families.delete(familyId)
    },

    keepCanary(sealed) {
      canary ??= sealed
      return canary
    },

    countCall({ keyDigest, windowSeconds, now }) {
      let window = windows.get(keyDigest)
      if (window === undefined || window.endsAt <= now || window.endsAt > now + windowSeconds) {
        // Put back at the end, so that the map's first keys are the windows that began first.
        windows.delete(keyDigest)
        window = { calls: 0, endsAt: now + windowSeconds }
        windows.set(keyDigest, window)
      }
      window.calls++
      return { ...window }
    },

    deleteExpired(now) {
      for (const user of users.values()) if (user.pending && user.pending.expiresAt < now) user.pending = null
      for (const [tokenId, expiresAt] of burnt) if (expiresAt < now) burnt.delete(tokenId)
      for (const [id, { expiresAt }] of families) if (expiresAt < now) families.delete(id)
      for (const [key, { endsAt }] of windows) if (endsAt < now) windows.delete(key)
    },

    migrate() {},

    close() {},
  }
  return asStore(operations)
}

/** The store's operations without their promises. */
type Operations = {
  [K in keyof TotpStore]: (...args: Parameters<TotpStore[K]>) => Awaited<ReturnType<TotpStore[K]>>
}

function asStore(operations: Operations): TotpStore {
  const entries = Object.entries(operations) as [string, (...args: unknown[]) => unknown][]
  const asynchronous = entries.map(([name, run]) => [name, async (...args: unknown[]) => run(...args)])
  return Object.fromEntries(asynchronous) as unknown as TotpStore
}

function newUser(): User {
  return { generation: 0, changedAt: 0, confirmedAt: null, live: null, pending: null, codes: [], failures: new Map() }
}

function recordOf({ generation, changedAt, confirmedAt }: User): UserRecord {
  return { generation, changedAt, confirmedAt }
}

function authenticatorOf(record: AuthenticatorRecord): AuthenticatorRecord {
  const { id, name, sealedSecret, parameters, createdAt, lastUsedAt } = record
  return { id, name, sealedSecret, parameters: { ...parameters }, createdAt, lastUsedAt }
}

/** The count with one more failure at `now`. */
function oneMore(count: FailureCount, now: UnixSeconds, limits: FailureLimits): FailureCount {
  const consecutive = count.consecutive + 1
  const further = consecutive - limits.beforeDelay
  const delay = Math.min(limits.firstDelaySeconds * 2 ** further, limits.maxDelaySeconds)
  return { ...count, consecutive, blockedUntil: further < 0 ? 0 : now + delay, inPeriod: count.inPeriod + 1 }
}

/** The count as of `now`. A clock set back stays in the later period. */
function turn(count: FailureCount | undefined, now: UnixSeconds, limits: FailureLimits): FailureCount {
  const period = periodOf(now, limits)
  if (!count) return { consecutive: 0, blockedUntil: 0, period, inPeriod: 0, inPreviousPeriod: 0 }
  if (period <= count.period) return count
  const inPreviousPeriod = period === count.period + 1 ? count.inPeriod : 0
  return { ...count, period, inPeriod: 0, inPreviousPeriod }
}

function giveBack(count: FailureCount): void {
  count.consecutive = 0
  count.blockedUntil = 0
  count.inPeriod = Math.max(0, count.inPeriod - 1)
}
