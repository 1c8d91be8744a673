import type { UnixSeconds } from '../clock.ts'
import type { FailureLimits } from '../policy.ts'
import { blockOf, budgetOf, type FailureCount, inPeriodOf, withFailure, withSuccess } from './failure-budget.ts'
import { mapStore } from './operations.ts'
import { isOutdated, MAX_CLOCK_SKEW_SECONDS } from './single-use.ts'
import type {
  AuthenticatorRecord,
  BackupCodeRecord,
  FactorStatus,
  FailureKind,
  PendingAuthenticator,
  RefreshFamily,
  Settlement,
  SingleUse,
  TotpStore,
  TrustedDeviceRecord,
  UserRecord,
} from './store.ts'

interface User extends UserRecord {
  live: (AuthenticatorRecord & { lastStep: number })[]
  pending: (AuthenticatorRecord & Pick<PendingAuthenticator, 'expiresAt' | 'sessionDigest'>) | null
  codes: (BackupCodeRecord & { usedAt: UnixSeconds | null })[]
  codesSavedAt: UnixSeconds | null
  failures: Map<FailureKind, FailureCount>
}

/** What dies with the generation that it was made under. */
interface OfGeneration {
  userId: string
  generation: number
  expiresAt: UnixSeconds
}

/**
 * A store in this process's memory: for tests and for trying things out. Everything is gone with the process, and two
 * processes know nothing of each other. Each operation runs without a pause, which makes it atomic.
 */
export function memoryStore(): TotpStore {
  const users = new Map<string, User>()
  const burnt = new Map<string, UnixSeconds>()
  const families = new Map<string, RefreshFamily & OfGeneration>()
  const devices = new Map<string, TrustedDeviceRecord & OfGeneration>()
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
    for (const device of devices.values()) if (device.userId === userId) devices.delete(device.id)
    user.pending = null
    user.generation++
    user.changedAt = Math.max(user.changedAt, now) + 1
  }
  const isSpent = (token: SingleUse, user: User, now: UnixSeconds) =>
    burnt.has(token.tokenId) || isOutdated(token, user, now)
  const isAlive = (of: OfGeneration | undefined, now: UnixSeconds) =>
    of !== undefined && of.expiresAt > now && of.generation === find(of.userId).generation
  const devicesOf = (userId: string, now: UnixSeconds) =>
    [...devices.values()].filter((device) => device.userId === userId && isAlive(device, now))
  const burn = ({ tokenId, expiresAt }: Pick<SingleUse, 'tokenId' | 'expiresAt'>, now: UnixSeconds) => {
    for (const [id, end] of burnt) if (end < now - MAX_CLOCK_SKEW_SECONDS) burnt.delete(id)
    burnt.set(tokenId, expiresAt)
  }

  const open = (family: RefreshFamily, generation: number, now: UnixSeconds) => {
    for (const [id, { expiresAt }] of families) if (expiresAt <= now) families.delete(id)
    families.set(family.id, { ...family, generation })
  }

  /** What the code of an attempt belongs to. `isKnown`: it is right, spent or not. */
  const factorOf = (user: User, attempt: Settlement): { isKnown: boolean; isUnspent: boolean; spend(): void } => {
    const { now } = attempt
    if (attempt.method === 'totp' && attempt.match) {
      const { authenticatorId, step, driftSteps } = attempt.match
      const live = user.live.find(({ id }) => id === authenticatorId)
      const spend = () => {
        if (!live) return
        Object.assign(live, { lastStep: step, lastUsedAt: now, driftSteps })
        if (live.resyncStep !== null && live.resyncStep <= step) live.resyncStep = null
      }
      return { isKnown: live !== undefined, isUnspent: live !== undefined && live.lastStep < step, spend }
    }
    const digests = attempt.method === 'backup_code' ? attempt.digests : []
    const code = user.codes.find(({ digest, usedAt }) => usedAt === null && digests.includes(digest))
    const spend = () => {
      if (code) code.usedAt = now
    }
    return { isKnown: code !== undefined, isUnspent: code !== undefined, spend }
  }

  const statusOf = (userId: string, now: UnixSeconds, limits: FailureLimits): FactorStatus => {
    const user = find(userId)
    return {
      user: recordOf(user),
      authenticators: liveOf(user),
      backupCodesRemaining: user.codes.filter((code) => code.usedAt === null).length,
      backupCodesSavedAt: user.codesSavedAt,
      pendingUntil: user.pending !== null && user.pending.expiresAt > now ? user.pending.expiresAt : null,
      trustedDevices: devicesOf(userId, now).length,
      lockedUntil: budgetOf(inPeriodOf(user.failures.get('totp'), now, limits), now, limits).lockedUntil,
    }
  }

  const operations: Operations = {
    getUser: (userId) => recordOf(find(userId)),

    getStatus: statusOf,

    getStatuses: (userIds, now, limits) => userIds.map((userId) => statusOf(userId, now, limits)),

    getFailureBudget: (userId, method, now, limits) =>
      budgetOf(inPeriodOf(find(userId).failures.get(method), now, limits), now, limits),

    readFactors({ userId, method, against, token, now, limits }) {
      const user = find(userId)
      if (token && isSpent(token, user, now)) return { outcome: 'stale' }
      const { pending } = user
      const isPending = pending !== null && pending.expiresAt > now
      const authenticators = against === 'live' ? liveOf(user) : isPending ? [authenticatorOf(pending)] : []
      if (authenticators.length === 0) return { outcome: 'absent' }
      const block = blockOf(inPeriodOf(user.failures.get(method), now, limits), now, limits)
      return block ?? { outcome: 'open', user: recordOf(user), authenticators }
    },

    settleAttempt(settlement) {
      const { userId, method, token, generation, family, now, limits } = settlement
      const user = find(userId)
      if (generation !== user.generation || (token && isSpent(token, user, now))) return { outcome: 'stale' }
      const factor = factorOf(user, settlement)
      const isCounted = method === 'totp' && settlement.isCounted
      const count = inPeriodOf(user.failures.get(method), now, limits)
      const block = isCounted && factor.isUnspent ? null : blockOf(count, now, limits)
      if (block) return block
      if (factor.isUnspent) {
        factor.spend()
        if (token) burn(token, now)
        user.failures.set(method, withSuccess(count, isCounted))
        if (family) open(family, generation, now)
        const unused = user.codes.filter(({ usedAt }) => usedAt === null).length
        return { outcome: 'spent', backupCodesRemaining: method === 'backup_code' ? unused : null }
      }
      if (factor.isKnown) return { outcome: 'spent_before', budget: budgetOf(count, now, limits) }
      const counted = withFailure(count, now, limits)
      keep(userId).failures.set(method, counted)
      return { outcome: 'wrong', budget: budgetOf(counted, now, limits) }
    },

    clearFailures: (userId) => find(userId).failures.clear(),

    noteResyncStep(userId, authenticatorId, step) {
      const { live, pending } = find(userId)
      for (const authenticator of [...live, pending]) {
        if (authenticator?.id === authenticatorId)
          authenticator.resyncStep = Math.max(authenticator.resyncStep ?? step, step)
      }
    },

    putPending(userId, pending, generation, limits) {
      if (find(userId).generation !== generation) return false
      const unused = { lastUsedAt: null, driftSteps: 0, resyncStep: null }
      const user = keep(userId)
      user.pending = { ...pending, ...unused, parameters: { ...pending.parameters } }
      const failures = user.failures.get('totp')
      if (failures && user.confirmedAt === null && failures.consecutive >= limits.lockAfter) failures.consecutive = 0
      return true
    },

    getPending(userId, now) {
      const { pending } = find(userId)
      if (pending === null || pending.expiresAt <= now) return null
      const { id, name, sealedSecret, parameters, createdAt, expiresAt, sessionDigest } = pending
      return { id, name, sealedSecret, parameters: { ...parameters }, createdAt, expiresAt, sessionDigest }
    },

    activatePending(activation) {
      const { userId, authenticatorId, step, driftSteps, maxAuthenticators, generation } = activation
      const { backupCodes, keepFamilyId, isCounted, now, limits } = activation
      const user = find(userId)
      const { pending } = user
      const count = inPeriodOf(user.failures.get('totp'), now, limits)
      const block = isCounted ? null : blockOf(count, now, limits)
      if (block) return block
      if (generation !== user.generation || pending?.id !== authenticatorId || pending.expiresAt <= now) {
        return { outcome: 'refused' }
      }
      const outcome = user.confirmedAt === null ? 'first' : user.live.length < maxAuthenticators ? 'added' : 'replaced'
      if (outcome === 'replaced') {
        const byUse = liveOf(user).sort((a, b) => Number(a.lastUsedAt) - Number(b.lastUsedAt))
        user.live = user.live.filter(({ id }) => id !== byUse[0]?.id)
      }
      user.live.push({ ...pending, lastUsedAt: now, lastStep: step, driftSteps, resyncStep: null })
      user.confirmedAt ??= now
      if (backupCodes) putCodes(user, backupCodes)
      user.failures.set('totp', withSuccess(count, isCounted))
      raise(userId, now, keepFamilyId)
      return { outcome }
    },

    importAuthenticator({ userId, authenticator, lastStep, maxAuthenticators, generation, backupCodes, now }) {
      if (find(userId).generation !== generation) return 'stale'
      if (find(userId).live.length >= maxAuthenticators) return 'full'
      const user = keep(userId)
      const outcome = user.confirmedAt === null ? 'first' : 'added'
      const { parameters, ...rest } = authenticator
      user.live.push({ ...rest, parameters: { ...parameters }, lastStep, driftSteps: 0, resyncStep: null })
      if (outcome === 'first' && backupCodes) putCodes(user, backupCodes)
      user.confirmedAt ??= authenticator.createdAt
      raise(userId, now, null)
      return outcome
    },

    renameAuthenticator(userId, authenticatorId, name) {
      const live = find(userId).live.find(({ id }) => id === authenticatorId)
      if (!live) return null
      live.name = name
      return authenticatorOf(live)
    },

    removeAuthenticator({ userId, authenticatorId, generation, keepFamilyId, now }) {
      const user = find(userId)
      if (generation !== user.generation) return 'stale'
      const others = user.live.filter(({ id }) => id !== authenticatorId)
      if (others.length === user.live.length) return 'absent'
      if (others.length === 0) return 'last'
      user.live = others
      raise(userId, now, keepFamilyId)
      return 'removed'
    },

    removeFactors({ userId, generation, token, keepFamilyId, now, limits }) {
      const user = find(userId)
      if (generation !== user.generation || (token && isSpent(token, user, now))) return { outcome: 'stale' }
      if (token) {
        const count = inPeriodOf(user.failures.get('recovery_password'), now, limits)
        const block = blockOf(count, now, limits)
        if (block) return block
        user.failures.set('recovery_password', withSuccess(count, false))
        burn(token, now)
      }
      user.pending = null
      for (const failures of user.failures.values()) {
        if (user.confirmedAt === null && failures.consecutive < limits.lockAfter) continue
        failures.consecutive = 0
        if (user.confirmedAt !== null) failures.blockedUntil = 0
      }
      if (user.confirmedAt === null) return { outcome: 'removed' }
      user.live = []
      putCodes(user, [])
      user.confirmedAt = null
      raise(userId, now, keepFamilyId)
      return { outcome: 'removed' }
    },

    replaceBackupCodes(userId, codes, generation) {
      const user = find(userId)
      if (user.confirmedAt === null || user.generation !== generation) return false
      putCodes(user, codes)
      return true
    },

    noteBackupCodesSaved(userId, now) {
      const user = find(userId)
      if (user.confirmedAt !== null) user.codesSavedAt = now
    },

    listBackupCodes: (userId) => find(userId).codes.map(({ sealedCode, usedAt }) => ({ sealedCode, usedAt })),

    raiseGeneration(userId, now, { isPasswordSame } = { isPasswordSame: false }) {
      raise(userId, now, null)
      if (isPasswordSame) return
      const failures = find(userId).failures.get('recovery_password')
      if (failures) Object.assign(failures, { consecutive: 0, blockedUntil: 0 })
    },

    forgetUser(userId, now) {
      raise(userId, now, null)
      const { generation, changedAt } = find(userId)
      users.set(userId, { ...newUser(), generation, changedAt })
    },

    isTokenUnused: (tokenId) => !burnt.has(tokenId),

    consumeToken(token, now) {
      if (token.expiresAt < now || burnt.has(token.tokenId)) return false
      burn(token, now)
      return true
    },

    keepTrustedDevice(device, generation) {
      if (find(device.userId).generation !== generation) return false
      for (const [id, { expiresAt }] of devices) if (expiresAt <= device.createdAt) devices.delete(id)
      devices.set(device.id, { ...device, generation })
      return true
    },

    rotateTrustedDevice({ userId, deviceId, tokenDigest, newTokenDigest, generation, now }) {
      const device = devices.get(deviceId)
      if (device?.userId !== userId) return 'dead'
      if (!isAlive(device, now) || device.generation !== generation || device.tokenDigest !== tokenDigest) {
        devices.delete(deviceId)
        return 'dead'
      }
      device.tokenDigest = newTokenDigest
      device.lastUsedAt = now
      return 'rotated'
    },

    listTrustedDevices(userId, now) {
      const newestFirst = devicesOf(userId, now).sort((a, b) => b.createdAt - a.createdAt)
      return newestFirst.map(({ generation: _, ...device }) => device)
    },

    endTrustedDevice: (userId, deviceId) => devices.get(deviceId)?.userId === userId && devices.delete(deviceId),

    endTrustedDevices(userId) {
      const own = [...devices.values()].filter((device) => device.userId === userId)
      for (const { id } of own) devices.delete(id)
      return own.length
    },

    openFamily: open,

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

    raiseFamily({ familyId, userId, newTokenId, expiresAt, generation, now }) {
      const family = families.get(familyId)
      if (!family || !isAlive(family, now) || family.userId !== userId || family.generation !== generation) return false
      family.tokenId = newTokenId
      family.expiresAt = expiresAt
      return true
    },

    isFamilyAlive(familyId, tokenId, now) {
      const family = families.get(familyId)
      return isAlive(family, now) && (tokenId === null || family?.tokenId === tokenId)
    },

    endFamily(familyId) {
      families.delete(familyId)
    },

    keepKeyCheck(sealed) {
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
      for (const [id, end] of burnt) if (end < now - MAX_CLOCK_SKEW_SECONDS) burnt.delete(id)
      for (const [id, { expiresAt }] of families) if (expiresAt < now) families.delete(id)
      for (const [id, { expiresAt }] of devices) if (expiresAt < now) devices.delete(id)
      for (const [key, { endsAt }] of windows) if (endsAt < now) windows.delete(key)
    },

    migrate() {},

    close() {},
  }
  return mapStore(
    operations as unknown as TotpStore,
    (operation) =>
      async (...args) =>
        operation(...args),
  )
}

/** The store's operations without their promises. */
type Operations = {
  [K in keyof TotpStore]: (...args: Parameters<TotpStore[K]>) => Awaited<ReturnType<TotpStore[K]>>
}

function newUser(): User {
  return {
    generation: 0,
    changedAt: 0,
    confirmedAt: null,
    live: [],
    pending: null,
    codes: [],
    codesSavedAt: null,
    failures: new Map(),
  }
}

function putCodes(user: User, codes: readonly BackupCodeRecord[]): void {
  user.codes = codes.map((code) => ({ ...code, usedAt: null }))
  user.codesSavedAt = null
}

function recordOf({ generation, changedAt, confirmedAt }: User): UserRecord {
  return { generation, changedAt, confirmedAt }
}

/** The oldest first. */
function liveOf({ live }: User): AuthenticatorRecord[] {
  return live.map(authenticatorOf).sort((a, b) => a.createdAt - b.createdAt)
}

function authenticatorOf(record: AuthenticatorRecord): AuthenticatorRecord {
  const { id, name, sealedSecret, parameters, createdAt, lastUsedAt, driftSteps, resyncStep } = record
  return { id, name, sealedSecret, parameters: { ...parameters }, createdAt, lastUsedAt, driftSteps, resyncStep }
}
