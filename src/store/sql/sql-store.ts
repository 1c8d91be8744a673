import type { OtpAlgorithm } from '../../otp/hotp.ts'
import type { FailureLimits } from '../../policy.ts'
import { budgetOf, type FailureCount, noFailures, periodOf, refusalOf } from '../failures.ts'
import { isOutdated } from '../single-use.ts'
import type {
  Attempt,
  AuthenticatorRecord,
  BackupCodeRecord,
  FactorStatus,
  FailureKind,
  PendingAuthenticator,
  Reservation,
  SingleUse,
  Spending,
  Spent,
  TotpStore,
  TrustedDeviceRecord,
  UserRecord,
} from '../store.ts'
import { checkTables, versionOf } from './migrations.ts'
import type { Tables } from './tables.ts'
import { all, first, type Row, run, type Work } from './work.ts'

/** Runs work on a database. */
export interface Runner {
  /** In one transaction, to be kept when `keep` says so of the result, else rolled back. */
  write<T>(work: () => Work<T>, keep: (result: T) => boolean): Promise<T>
  /** Reads that see one moment. */
  read<T>(work: () => Work<T>): Promise<T>
  /** One statement, which needs no transaction. */
  single<T>(work: () => Work<T>): Promise<T>
}

const always = () => true
const done = (result: boolean) => result

/** The store's operations in SQL; what a database can do better, its own file replaces. */
export function sqlStore(runner: Runner, tables: Tables): Omit<TotpStore, 'migrate' | 'close'> {
  return {
    getUser: (userId) => runner.single(() => getUser(userId)),
    getStatus: (userId, now, limits) => runner.read(() => getStatus(userId, now, limits)),
    getStatuses: (userIds, now, limits) => runner.read(() => getStatuses(userIds, now, limits)),
    getFailureBudget: (userId, method, now, limits) =>
      runner.single(function* () {
        return budgetOf(yield* failuresOf({ userId, method, now, limits }), now, limits)
      }),
    reserveAttempt: (attempt) =>
      runner.write(
        () => reserveAttempt(attempt),
        ({ outcome }) => outcome === 'reserved',
      ),
    spend: (spending) =>
      runner.write(
        () => spend(spending),
        ({ outcome }) => outcome === 'spent',
      ),
    returnAttempt: (attempt) =>
      runner.single(function* () {
        yield* run('returnAttempt', attempt)
      }),
    clearFailures: (userId) =>
      runner.single(function* () {
        yield* run('clearFailures', { userId })
      }),
    noteResyncStep: (userId, authenticatorId, step) =>
      runner.write(function* () {
        yield* run('noteResyncStep', { userId, authenticatorId, step })
        yield* run('noteResyncStepOfPending', { userId, authenticatorId, step })
      }, always),
    putPending: (userId, pending, generation, limits) =>
      runner.write(function* () {
        const user = yield* lockUser(userId)
        if (user.generation !== generation) return false
        const { parameters, ...rest } = pending
        yield* run('deletePending', { userId })
        yield* run('insertPending', { userId, ...rest, ...parameters })
        if (user.confirmedAt === null) yield* run('liftLockOfApp', { userId, lockAfter: limits.lockAfter })
        return true
      }, done),
    getPending: (userId, now) =>
      runner.single(function* () {
        const row = yield* first('getPending', { userId, now })
        return row ? toPending(row) : null
      }),
    activatePending: (activation) =>
      runner.write(
        () => activatePending(activation),
        (outcome) => outcome !== 'refused',
      ),
    importAuthenticator: (brought) =>
      runner.write(
        () => importAuthenticator(brought),
        (outcome) => outcome === 'first' || outcome === 'added',
      ),
    renameAuthenticator: (userId, authenticatorId, name) =>
      runner.write(function* () {
        yield* run('renameAuthenticator', { userId, authenticatorId, name })
        return (yield* all('getLive', { userId })).map(toAuthenticator).find(({ id }) => id === authenticatorId) ?? null
      }, always),
    removeAuthenticator: (removal) =>
      runner.write(
        () => removeAuthenticator(removal),
        (outcome) => outcome === 'removed',
      ),
    removeFactors: (removal) => runner.write(() => removeFactors(removal), done),
    replaceBackupCodes: (userId, codes, generation) =>
      runner.write(function* () {
        const user = yield* lockUser(userId)
        if (user.confirmedAt === null || user.generation !== generation) return false
        yield* putCodes(userId, codes)
        return true
      }, done),
    listBackupCodes: (userId) =>
      runner.single(function* () {
        const rows = yield* all('listBackupCodes', { userId })
        return rows.map((row) => ({ sealedCode: textOrNull(row.sealed_code), usedAt: numberOrNull(row.used_at) }))
      }),
    noteBackupCodesSaved: (userId, now) =>
      runner.single(function* () {
        yield* run('noteCodesSaved', { userId, now })
      }),
    raiseGeneration: (userId, now, { isPasswordSame } = { isPasswordSame: false }) =>
      runner.write(function* () {
        const { generation } = yield* lockUser(userId)
        yield* raise(userId, generation + 1, now, null)
        if (!isPasswordSame) yield* run('forgiveRecoveryPasswords', { userId })
      }, always),
    forgetUser: (userId, now) =>
      runner.write(function* () {
        const { generation } = yield* lockUser(userId)
        yield* run('deleteLive', { userId })
        yield* run('deleteBackupCodes', { userId })
        yield* run('clearFailures', { userId })
        yield* raise(userId, generation + 1, now, null)
        yield* run('switchOff', { userId })
      }, always),
    isTokenUnused: (tokenId) =>
      runner.single(function* () {
        return (yield* first('isBurnt', { tokenId })) === undefined
      }),
    consumeToken: (token, now) => runner.write(() => consumeToken(token, now), done),
    keepTrustedDevice: (device, generation) =>
      runner.write(function* () {
        if ((yield* lockUser(device.userId)).generation !== generation) return false
        yield* run('keepDevice', { ...device, generation })
        yield* run('forgetTwoDevices', { now: device.createdAt })
        return true
      }, done),
    rotateTrustedDevice: (rotation) =>
      runner.write(function* () {
        if ((yield* run('rotateDevice', rotation)) === 1) return 'rotated'
        yield* run('endDevice', rotation)
        return 'dead'
      }, always),
    listTrustedDevices: (userId, now) => runner.single(() => listDevices(userId, now)),
    endTrustedDevice: (userId, deviceId) =>
      runner.single(function* () {
        return (yield* run('endDevice', { userId, deviceId })) === 1
      }),
    endTrustedDevices: (userId) =>
      runner.single(function* () {
        return yield* run('endDevices', { userId })
      }),
    openFamily: ({ id, userId, tokenId, expiresAt }, generation, now) =>
      runner.write(function* () {
        yield* run('openFamily', { id, userId, tokenId, expiresAt, generation })
        yield* run('forgetTwoFamilies', { now })
      }, always),
    rotateFamily: ({ familyId, tokenId, newTokenId, expiresAt, now }) =>
      runner.write(function* () {
        if ((yield* run('rotateFamily', { familyId, tokenId, newTokenId, expiresAt, now })) === 1) return 'rotated'
        yield* run('endFamily', { familyId })
        return 'dead'
      }, always),
    raiseFamily: (raising) =>
      runner.single(function* () {
        return (yield* run('raiseFamily', raising)) === 1
      }),
    isFamilyAlive: (familyId, tokenId, now) =>
      runner.single(function* () {
        const row = yield* first('getFamily', { familyId, now })
        return row !== undefined && (tokenId === null || String(row.token_id) === tokenId)
      }),
    endFamily: (familyId) =>
      runner.single(function* () {
        yield* run('endFamily', { familyId })
      }),
    keepKeyCheck: (sealed) =>
      runner.write(function* () {
        yield* run('keepKeyCheck', { sealed })
        const row = yield* first('getKeyCheck', {})
        const version = versionOf(row)
        checkTables(version, version === null ? yield* all('listColumns', {}) : [], tables)
        return String(row?.sealed)
      }, always),
    countCall: ({ keyDigest, windowSeconds, now }) =>
      runner.write(function* () {
        const call = { keyDigest, expiresAt: now + windowSeconds, now }
        if ((yield* run('countCall', call)) === 0) {
          yield* run('ensureCalls', call)
          yield* run('countCall', call)
        }
        const row = yield* first('getCalls', { keyDigest })
        yield* run('forgetTwoCalls', { now })
        return { calls: Number(row?.calls), endsAt: Number(row?.expires_at) }
      }, always),
    deleteExpired: (now) =>
      runner.write(function* () {
        yield* run('deleteExpiredPending', { now })
        yield* run('deleteExpiredBurntTokens', { now })
        yield* run('deleteExpiredFamilies', { now })
        yield* run('deleteExpiredDevices', { now })
        yield* run('deleteExpiredCalls', { now })
      }, always),
  }
}

function* getUser(userId: string): Work<UserRecord> {
  return toUser(yield* first('getUser', { userId }))
}

/** The user as of now, held so until the transaction ends: of two changes at once, one waits for the other. */
function* lockUser(userId: string): Work<UserRecord> {
  // Looked for first: MySQL's INSERT IGNORE would hold a shared lock, and two that hold one wait for each other for ever.
  const row = yield* first('lockUser', { userId })
  if (row) return toUser(row)
  yield* run('ensureUser', { userId })
  return toUser(yield* first('lockUser', { userId }))
}

function* getStatus(userId: string, now: number, limits: FailureLimits): Work<FactorStatus> {
  const failures = yield* failuresOf({ userId, method: 'totp', now, limits })
  const row = yield* first('getWholeUser', { userId })
  return {
    user: toUser(row),
    authenticators: (yield* all('getLive', { userId })).map(toAuthenticator),
    backupCodesRemaining: yield* remaining(userId),
    backupCodesSavedAt: numberOrNull(row?.codes_saved_at),
    pendingUntil: numberOrNull((yield* first('getPending', { userId, now }))?.expires_at),
    trustedDevices: (yield* listDevices(userId, now)).length,
    lockedUntil: budgetOf(failures, now, limits).lockedUntil,
  }
}

function* getStatuses(userIds: readonly string[], now: number, limits: FailureLimits): Work<FactorStatus[]> {
  const period = periodOf(now, limits)
  const of = { userIds: JSON.stringify(userIds), now, period }
  const users = byUser(yield* all('usersIn', of))
  const live = byUser(yield* all('liveIn', of))
  const codes = byUser(yield* all('countBackupCodesIn', of))
  const pending = byUser(yield* all('pendingIn', of))
  const devices = byUser(yield* all('countDevicesIn', of))
  const failures = byUser(yield* all('failuresIn', of))
  return userIds.map((userId) => {
    const [failed] = failures.get(userId) ?? []
    return {
      user: toUser(users.get(userId)?.[0]),
      authenticators: (live.get(userId) ?? []).map(toAuthenticator),
      backupCodesRemaining: Number(codes.get(userId)?.[0]?.counted ?? 0),
      backupCodesSavedAt: numberOrNull(users.get(userId)?.[0]?.codes_saved_at),
      pendingUntil: numberOrNull(pending.get(userId)?.[0]?.expires_at),
      trustedDevices: Number(devices.get(userId)?.[0]?.counted ?? 0),
      lockedUntil: budgetOf(failed ? toFailureCount(failed) : noFailures(period), now, limits).lockedUntil,
    }
  })
}

function byUser(rows: readonly Row[]): Map<string, Row[]> {
  const found = new Map<string, Row[]>()
  for (const row of rows) {
    const userId = String(row.user_id)
    found.set(userId, [...(found.get(userId) ?? []), row])
  }
  return found
}

function* reserveAttempt({ userId, method, against, challenge, now, limits }: Attempt): Work<Reservation> {
  const user = yield* getUser(userId)
  if (challenge && (isOutdated(challenge, user, now) || (yield* first('isBurnt', { tokenId: challenge.tokenId })))) {
    return { outcome: 'stale' }
  }
  const rows = yield* against === 'live' ? all('getLive', { userId }) : all('getPending', { userId, now })
  if (rows.length === 0) return { outcome: 'absent' }
  const attempted = { userId, method, now, ...limitNumbers(now, limits) }
  // Read in the transaction that wrote it, which holds the row: no other attempt is in it.
  const reserved = function* (): Work<Reservation> {
    const { consecutive } = yield* failuresOf({ userId, method, now, limits })
    return { outcome: 'reserved', user, authenticators: rows.map(toAuthenticator), consecutive }
  }
  if ((yield* run('countAttempt', attempted)) === 1) return yield* reserved()
  const refused = yield* refusal({ userId, method, now, limits })
  if (refused) return refused
  // Not refused and not counted: it is the first failure of all.
  yield* run('ensureFailures', attempted)
  return (yield* run('countAttempt', attempted)) === 1 ? yield* reserved() : { outcome: 'delayed', retryAt: now + 1 }
}

/** Null when one more attempt may be judged. */
export function* refusal(of: Counted): Work<ReturnType<typeof refusalOf>> {
  return refusalOf(yield* failuresOf(of), of.now, of.limits)
}

interface Counted {
  userId: string
  method: FailureKind
  now: number
  limits: FailureLimits
}

/** Turned to the period of `now`. */
function* failuresOf({ userId, method, now, limits }: Counted): Work<FailureCount> {
  const period = periodOf(now, limits)
  const row = yield* first('getFailures', { userId, method, period })
  return row ? toFailureCount(row) : noFailures(period)
}

function* spend(spending: Spending): Work<Spent> {
  const { userId, challenge, generation, now, method } = spending
  const user = yield* lockUser(userId)
  if (user.generation !== generation || !(yield* burnOf(user, challenge, now))) return { outcome: 'stale' }
  if ((yield* spendCode(spending)) === 0) return { outcome: 'refused' }
  yield* run('giveBackAttempt', { userId, method })
  return { outcome: 'spent', backupCodesRemaining: yield* remaining(userId) }
}

function* spendCode(spending: Spending): Work<number> {
  const { userId, now } = spending
  if (spending.method === 'totp') {
    const { authenticatorId, step, driftSteps } = spending
    return yield* run('spendStep', { userId, authenticatorId, step, driftSteps, now })
  }
  for (const digest of spending.digests) {
    if ((yield* run('spendBackupCode', { userId, digest, now })) === 1) return 1
  }
  return 0
}

/** False when `token`, where there is one, may not be used any more; else burns it. */
function* burnOf(user: UserRecord, token: SingleUse | null, now: number): Work<boolean> {
  return token === null || (!isOutdated(token, user, now) && (yield* consumeToken(token, now)))
}

function* consumeToken(token: Pick<SingleUse, 'tokenId' | 'expiresAt'>, now: number): Work<boolean> {
  const { tokenId, expiresAt } = token
  if (expiresAt < now || (yield* run('consumeToken', { tokenId, expiresAt })) === 0) return false
  yield* run('forgetTwoBurntTokens', { now })
  return true
}

type Activation = Parameters<TotpStore['activatePending']>[0]

function* activatePending(activation: Activation): Work<'first' | 'added' | 'replaced' | 'refused'> {
  const { userId, authenticatorId, step, driftSteps, maxAuthenticators, generation, now } = activation
  const { backupCodes, keepFamilyId } = activation
  const user = yield* lockUser(userId)
  if (user.generation !== generation) return 'refused'
  const [leastLately, ...others] = yield* all('lockLiveByUse', { userId })
  const isFull = leastLately !== undefined && others.length + 1 >= maxAuthenticators
  if ((yield* run('copyPendingToLive', { userId, authenticatorId, step, driftSteps, now })) === 0) return 'refused'
  if (isFull) yield* run('deleteAuthenticator', { userId, authenticatorId: String(leastLately.id) })
  if (backupCodes) yield* putCodes(userId, backupCodes)
  yield* run('giveBackAttempt', { userId, method: 'totp' })
  yield* raise(userId, generation + 1, now, keepFamilyId)
  yield* run('switchOn', { userId, now })
  return user.confirmedAt === null ? 'first' : isFull ? 'replaced' : 'added'
}

type Import = Parameters<TotpStore['importAuthenticator']>[0]

function* importAuthenticator(brought: Import): Work<'first' | 'added' | 'full' | 'stale'> {
  const { userId, authenticator, lastStep, maxAuthenticators, generation, backupCodes, now } = brought
  const user = yield* lockUser(userId)
  if (user.generation !== generation) return 'stale'
  if ((yield* all('lockLiveByUse', { userId })).length >= maxAuthenticators) return 'full'
  const { parameters, ...rest } = authenticator
  yield* run('insertLive', { userId, ...rest, ...parameters, lastStep })
  const isFirst = user.confirmedAt === null
  if (isFirst && backupCodes) yield* putCodes(userId, backupCodes)
  yield* raise(userId, generation + 1, now, null)
  yield* run('switchOn', { userId, now: authenticator.createdAt })
  return isFirst ? 'first' : 'added'
}

type AuthenticatorRemoval = Parameters<TotpStore['removeAuthenticator']>[0]

function* removeAuthenticator(removal: AuthenticatorRemoval): Work<'removed' | 'last' | 'absent' | 'stale'> {
  const { userId, authenticatorId, generation, keepFamilyId, now } = removal
  if ((yield* lockUser(userId)).generation !== generation) return 'stale'
  const live = yield* all('lockLiveByUse', { userId })
  if (!live.some(({ id }) => String(id) === authenticatorId)) return 'absent'
  if (live.length === 1) return 'last'
  yield* run('deleteAuthenticator', { userId, authenticatorId })
  yield* raise(userId, generation + 1, now, keepFamilyId)
  return 'removed'
}

function* removeFactors(removal: Parameters<TotpStore['removeFactors']>[0]): Work<boolean> {
  const { userId, generation, token, keepFamilyId, now, limits } = removal
  const user = yield* lockUser(userId)
  if (user.generation !== generation || !(yield* burnOf(user, token, now))) return false
  if (user.confirmedAt === null) {
    yield* run('deletePending', { userId })
    yield* run('liftLock', { userId, lockAfter: limits.lockAfter })
    return true
  }
  yield* run('clearConsecutiveFailures', { userId })
  yield* run('deleteLive', { userId })
  yield* run('deleteBackupCodes', { userId })
  yield* raise(userId, generation + 1, now, keepFamilyId)
  yield* run('switchOff', { userId })
  return true
}

/** The caller holds the user's lock. */
function* raise(userId: string, generation: number, now: number, keepFamilyId: string | null): Work<void> {
  yield* run('raiseGeneration', { userId, now })
  // Begun by whoever had leave to change the factors as they were: a thief with an access token, before the password changed.
  yield* run('deletePending', { userId })
  if (keepFamilyId !== null) yield* run('keepFamily', { userId, keepFamilyId, generation })
  yield* run('endStaleFamilies', { userId, generation })
  yield* run('endDevices', { userId })
}

function* putCodes(userId: string, codes: readonly BackupCodeRecord[]): Work<void> {
  yield* run('deleteBackupCodes', { userId })
  yield* run('forgetCodesSaved', { userId })
  for (const [position, { digest, sealedCode }] of codes.entries()) {
    yield* run('insertBackupCode', { userId, digest, sealedCode, position })
  }
}

function* listDevices(userId: string, now: number): Work<TrustedDeviceRecord[]> {
  return (yield* all('listDevices', { userId, now })).map((row) => ({
    id: String(row.id),
    userId,
    name: textOrNull(row.name),
    tokenDigest: String(row.token_digest),
    createdAt: Number(row.created_at),
    lastUsedAt: Number(row.last_used_at),
    expiresAt: Number(row.expires_at),
  }))
}

function* remaining(userId: string): Work<number> {
  return Number((yield* first('countBackupCodes', { userId }))?.remaining)
}

/** The numbers that the failure statements compare with. */
export function limitNumbers(now: number, limits: FailureLimits) {
  const { delayAfter, firstDelaySeconds, maxDelaySeconds, lockAfter, maxPerPeriod } = limits
  return { period: periodOf(now, limits), delayAfter, firstDelaySeconds, maxDelaySeconds, lockAfter, maxPerPeriod }
}

export function toUser(row: Row | undefined): UserRecord {
  if (!row || row.generation === null) return { generation: 0, changedAt: 0, confirmedAt: null }
  return {
    generation: Number(row.generation),
    changedAt: Number(row.changed_at),
    confirmedAt: numberOrNull(row.confirmed_at),
  }
}

/** Of a live authenticator, or of a pending one, which has neither been used nor drifted. */
export function toAuthenticator(row: Row): AuthenticatorRecord {
  return {
    id: String(row.id),
    name: textOrNull(row.name),
    sealedSecret: String(row.sealed_secret),
    parameters: {
      algorithm: String(row.algorithm) as OtpAlgorithm,
      digits: Number(row.digits),
      periodSeconds: Number(row.period_seconds),
    },
    createdAt: Number(row.created_at),
    lastUsedAt: numberOrNull(row.last_used_at),
    driftSteps: Number(row.drift_steps ?? 0),
    resyncStep: numberOrNull(row.far_step),
  }
}

function toPending(row: Row): PendingAuthenticator {
  const { id, name, sealedSecret, parameters, createdAt } = toAuthenticator(row)
  const expiresAt = Number(row.expires_at)
  return { id, name, sealedSecret, parameters, createdAt, expiresAt, sessionDigest: textOrNull(row.session_digest) }
}

function toFailureCount(row: Row): FailureCount {
  return {
    consecutive: Number(row.consecutive),
    blockedUntil: Number(row.blocked_until),
    period: Number(row.period),
    inPeriod: Number(row.in_period),
    inPreviousPeriod: Number(row.in_previous_period),
  }
}

function numberOrNull(value: Row[string] | undefined): number | null {
  return value === null || value === undefined ? null : Number(value)
}

function textOrNull(value: Row[string] | undefined): string | null {
  return value === null || value === undefined ? null : String(value)
}
