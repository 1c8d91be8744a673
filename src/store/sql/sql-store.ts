import type { SecondFactorMethod } from '../../events.ts'
import type { OtpAlgorithm } from '../../otp/hotp.ts'
import type { FailureLimits } from '../../policy.ts'
import { type FailureCount, periodOf, refusalOf } from '../failures.ts'
import { isOutdated } from '../single-use.ts'
import type {
  Attempt,
  AuthenticatorRecord,
  BackupCodeRecord,
  FactorStatus,
  Reservation,
  Spending,
  Spent,
  TotpStore,
  UserRecord,
} from '../store.ts'
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
export function sqlStore(runner: Runner): Omit<TotpStore, 'migrate' | 'close'> {
  return {
    getUser: (userId) => runner.single(() => getUser(userId)),
    getStatus: (userId, now, limits) => runner.read(() => getStatus(userId, now, limits)),
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
    putPending: (userId, pending, generation) =>
      runner.write(function* () {
        if ((yield* lockUser(userId)).generation !== generation) return false
        const { parameters, ...rest } = pending
        yield* run('deletePending', { userId })
        yield* run('insertPending', { userId, ...rest, ...parameters })
        return true
      }, done),
    activatePending: (activation) => runner.write(() => activatePending(activation), done),
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
    raiseGeneration: (userId, now) =>
      runner.write(function* () {
        const { generation } = yield* lockUser(userId)
        yield* raise(userId, generation + 1, now, null)
      }, always),
    isUnburnt: (tokenId) =>
      runner.single(function* () {
        return (yield* first('isBurnt', { tokenId })) === undefined
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
    isFamilyAlive: (familyId, tokenId, now) =>
      runner.single(function* () {
        const row = yield* first('getFamily', { familyId, now })
        return row !== undefined && (tokenId === null || String(row.token_id) === tokenId)
      }),
    endFamily: (familyId) =>
      runner.single(function* () {
        yield* run('endFamily', { familyId })
      }),
    keepCanary: (sealed) =>
      runner.write(function* () {
        yield* run('keepCanary', { sealed })
        return String((yield* first('getCanary', {}))?.sealed)
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
  const refused = yield* refusal({ userId, method: 'totp', now, limits })
  return {
    user: yield* getUser(userId),
    authenticators: (yield* all('getLive', { userId })).map(toAuthenticator),
    backupCodesRemaining: yield* remaining(userId),
    hasPending: (yield* first('getPending', { userId, now })) !== undefined,
    lockedUntil: refused === null ? null : refused.outcome === 'locked' ? 'forever' : refused.retryAt,
  }
}

function* reserveAttempt({ userId, method, against, challenge, now, limits }: Attempt): Work<Reservation> {
  const user = yield* getUser(userId)
  if (challenge && (isOutdated(challenge, user, now) || (yield* first('isBurnt', { tokenId: challenge.tokenId })))) {
    return { outcome: 'stale' }
  }
  const row = yield* against === 'live' ? first('getLive', { userId }) : first('getPending', { userId, now })
  if (!row) return { outcome: 'absent' }
  const attempted = { userId, method, now, ...limitNumbers(now, limits) }
  const reserved = { outcome: 'reserved', user, authenticator: toAuthenticator(row) } as const
  if ((yield* run('countAttempt', attempted)) === 1) return reserved
  const refused = yield* refusal({ userId, method, now, limits })
  if (refused) return refused
  // Not refused and not counted: it is the first failure of all.
  yield* run('ensureFailures', attempted)
  return (yield* run('countAttempt', attempted)) === 1 ? reserved : { outcome: 'delayed', retryAt: now + 1 }
}

/** Null when one more attempt may be judged. */
export function* refusal(of: { userId: string; method: SecondFactorMethod; now: number; limits: FailureLimits }) {
  const { userId, method, now, limits } = of
  const row = yield* first('getFailures', { userId, method, period: periodOf(now, limits) })
  return row ? refusalOf(toFailureCount(row), now, limits) : null
}

function* spend(spending: Spending): Work<Spent> {
  const { userId, challenge, generation, now, method } = spending
  const user = yield* lockUser(userId)
  if (user.generation !== generation || (challenge && isOutdated(challenge, user, now))) return { outcome: 'stale' }
  if (challenge && (yield* run('burnToken', { ...challenge })) === 0) return { outcome: 'stale' }
  if ((yield* spendCode(spending)) === 0) return { outcome: 'refused' }
  yield* run('giveBackAttempt', { userId, method })
  if (challenge) yield* run('forgetTwoBurntTokens', { now })
  return { outcome: 'spent', backupCodesRemaining: yield* remaining(userId) }
}

function* spendCode(spending: Spending): Work<number> {
  const { userId, now } = spending
  if (spending.method === 'totp') {
    const { authenticatorId, step } = spending
    return yield* run('spendStep', { userId, authenticatorId, step, now })
  }
  for (const digest of spending.digests) {
    if ((yield* run('spendBackupCode', { userId, digest, now })) === 1) return 1
  }
  return 0
}

function* activatePending(activation: Parameters<TotpStore['activatePending']>[0]): Work<boolean> {
  const { userId, authenticatorId, step, generation, backupCodes, keepFamilyId, now } = activation
  if ((yield* lockUser(userId)).generation !== generation) return false
  if ((yield* run('copyPendingToLive', { userId, authenticatorId, step, now })) === 0) return false
  yield* run('deleteOtherLive', { userId, authenticatorId })
  yield* run('deletePending', { userId })
  if (backupCodes) yield* putCodes(userId, backupCodes)
  yield* run('giveBackAttempt', { userId, method: 'totp' })
  yield* raise(userId, generation + 1, now, keepFamilyId)
  yield* run('switchOn', { userId, now })
  return true
}

function* removeFactors(removal: Parameters<TotpStore['removeFactors']>[0]): Work<boolean> {
  const { userId, generation, keepFamilyId, now, limits } = removal
  const user = yield* lockUser(userId)
  if (user.generation !== generation) return false
  yield* run('deletePending', { userId })
  if (user.confirmedAt === null) {
    yield* run('liftHardCap', { userId, hardCap: limits.hardCap })
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
  if (keepFamilyId !== null) yield* run('keepFamily', { userId, keepFamilyId, generation })
  yield* run('endStaleFamilies', { userId, generation })
}

function* putCodes(userId: string, codes: readonly BackupCodeRecord[]): Work<void> {
  yield* run('deleteBackupCodes', { userId })
  for (const [position, { digest, sealedCode }] of codes.entries()) {
    yield* run('insertBackupCode', { userId, digest, sealedCode, position })
  }
}

function* remaining(userId: string): Work<number> {
  return Number((yield* first('countBackupCodes', { userId }))?.remaining)
}

/** The numbers that the failure statements compare with. */
export function limitNumbers(now: number, limits: FailureLimits) {
  const { beforeDelay, firstDelaySeconds, maxDelaySeconds, hardCap, total } = limits
  return { period: periodOf(now, limits), beforeDelay, firstDelaySeconds, maxDelaySeconds, hardCap, total }
}

export function toUser(row: Row | undefined): UserRecord {
  if (!row || row.generation === null) return { generation: 0, changedAt: 0, confirmedAt: null }
  return {
    generation: Number(row.generation),
    changedAt: Number(row.changed_at),
    confirmedAt: numberOrNull(row.confirmed_at),
  }
}

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
  }
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
