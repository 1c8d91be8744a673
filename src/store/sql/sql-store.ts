import { randomUUID } from 'node:crypto'
import type { OtpAlgorithm } from '../../otp/hotp.ts'
import type { FailureLimits } from '../../policy.ts'
import { blockOf, budgetOf, type FailureCount, limitParameters, noFailures, periodOf } from '../failure-budget.ts'
import type {
  Attempt,
  AuthenticatorRecord,
  BackupCodeRecord,
  FactorStatus,
  Factors,
  FailureKind,
  PendingAuthenticator,
  Settled,
  Settlement,
  SingleUse,
  TotpStore,
  TrustedDeviceRecord,
  UserRecord,
} from '../store.ts'
import { type Query, query, type Result, type Row, type Runner } from './batch.ts'
import type { SqlParameters } from './dialect.ts'
import { checkTables, versionOf } from './migrations.ts'
import type { StatementName } from './statements.ts'
import type { Tables } from './tables.ts'

/** The store's operations in SQL; what a database can do better, its own file replaces. */
export function sqlStore(runner: Runner, tables: Tables): Omit<TotpStore, 'migrate' | 'close'> {
  const first = async (statement: StatementName, parameters: SqlParameters = {}): Promise<Row | undefined> =>
    (await all(statement, parameters))[0]
  const all = async (statement: StatementName, parameters: SqlParameters): Promise<readonly Row[]> =>
    (await runner.read([query(statement, parameters)]))[0]?.rows ?? []
  /** @returns how many rows were written */
  const run = async (statement: StatementName, parameters: SqlParameters): Promise<number> =>
    (await runner.write([query(statement, parameters)]))[0]?.changes ?? 0
  const write = async (queries: readonly Query[]): Promise<Answers> => answersTo(queries, await runner.write(queries))
  const read = async (queries: readonly Query[]): Promise<Answers> => answersTo(queries, await runner.read(queries))

  return {
    getUser: async (userId) => toUser(await first('getUser', { userId })),

    async getStatus(userId, now, limits) {
      const of = { userId, now, period: periodOf(now, limits), method: 'totp' }
      const { rows } = await read([
        query('getFailures', of),
        query('getWholeUser', of),
        query('getLive', of),
        query('countBackupCodes', of),
        query('getPending', of),
        query('listDevices', of),
      ])
      const [user] = rows('getWholeUser')
      return {
        user: toUser(user),
        authenticators: rows('getLive').map(toAuthenticator),
        backupCodesRemaining: Number(rows('countBackupCodes')[0]?.remaining),
        backupCodesSavedAt: numberOrNull(user?.codes_saved_at),
        pendingUntil: numberOrNull(rows('getPending')[0]?.expires_at),
        trustedDevices: rows('listDevices').length,
        lockedUntil: budgetOf(toFailureCount(rows('getFailures')[0], now, limits), now, limits).lockedUntil,
      }
    },

    async getStatuses(userIds, now, limits) {
      const of = { userIds: JSON.stringify(userIds), now, period: periodOf(now, limits) }
      const { rows } = await read([
        query('usersIn', of),
        query('liveIn', of),
        query('countBackupCodesIn', of),
        query('pendingIn', of),
        query('countDevicesIn', of),
        query('failuresIn', of),
      ])
      const users = byUser(rows('usersIn'))
      const live = byUser(rows('liveIn'))
      const codes = byUser(rows('countBackupCodesIn'))
      const pending = byUser(rows('pendingIn'))
      const devices = byUser(rows('countDevicesIn'))
      const failures = byUser(rows('failuresIn'))
      return userIds.map(
        (userId): FactorStatus => ({
          user: toUser(users.get(userId)?.[0]),
          authenticators: (live.get(userId) ?? []).map(toAuthenticator),
          backupCodesRemaining: Number(codes.get(userId)?.[0]?.counted ?? 0),
          backupCodesSavedAt: numberOrNull(users.get(userId)?.[0]?.codes_saved_at),
          pendingUntil: numberOrNull(pending.get(userId)?.[0]?.expires_at),
          trustedDevices: Number(devices.get(userId)?.[0]?.counted ?? 0),
          lockedUntil: budgetOf(toFailureCount(failures.get(userId)?.[0], now, limits), now, limits).lockedUntil,
        }),
      )
    },

    async getFailureBudget(userId, method, now, limits) {
      const row = await first('getFailures', { userId, method, period: periodOf(now, limits) })
      return budgetOf(toFailureCount(row, now, limits), now, limits)
    },

    readFactors: (attempt) => readFactorsBy(runner, { live: 'readLive', pending: 'readPending' }, attempt),

    async settleAttempt(settlement) {
      if (isExpired(settlement)) return { outcome: 'stale' }
      const { queries, read: settledBy } = settling(settlement)
      return settledBy(await write([query('lockUser', { userId: settlement.userId }), ...queries]))
    },

    async clearFailures(userId) {
      await run('clearFailures', { userId })
    },

    async noteResyncStep(userId, authenticatorId, step) {
      const of = { userId, authenticatorId, step }
      await write([query('noteResyncStep', of), query('noteResyncStepOfPending', of)])
    },

    async putPending(userId, pending, generation, limits) {
      const change = changeOf({ userId, generation })
      const { parameters, ...rest } = pending
      const { changes } = await write([
        ...claim('claimUser', change),
        query('deletePending', change),
        query('insertPending', { ...change, ...rest, ...parameters }),
        query('liftLockOfApp', { ...change, lockAfter: limits.lockAfter }),
      ])
      return changes('claimUser') === 1
    },

    async getPending(userId, now) {
      const row = await first('getPending', { userId, now })
      return row ? toPending(row) : null
    },

    activatePending: async (activation) => {
      const { userId, authenticatorId, step, driftSteps, maxAuthenticators, generation, now, limits } = activation
      const { backupCodes, keepFamilyId, isCounted } = activation
      const attempt = attemptOf({ userId, method: 'totp', generation, token: null, isCounted, now, limits })
      const change = { ...changeOf({ userId, generation }, attempt.attemptId), ...attempt }
      const { rows, changes } = await write([
        query('ensureUser', change),
        query('lockUser', change),
        query('lockLive', change),
        query('settlePending', { ...change, authenticatorId }),
        query('claimUserByCode', change),
        query('copyPendingToLive', { ...change, authenticatorId, step, driftSteps, now }),
        query('deleteLeastUsed', { ...change, authenticatorId, maxAuthenticators }),
        ...(backupCodes ? putCodes(change, backupCodes) : []),
        ...raise(change, now, keepFamilyId),
        query('switchOn', { ...change, now }),
        query('getSettled', change),
      ])
      if (changes('claimUserByCode') === 0) {
        const [row] = rows('getSettled')
        return blockOf(toFailureCount(row, now, limits), now, limits) ?? { outcome: 'refused' }
      }
      const isFirst = toUser(rows('lockUser')[0]).confirmedAt === null
      return { outcome: isFirst ? 'first' : rows('lockLive').length < maxAuthenticators ? 'added' : 'replaced' }
    },

    async importAuthenticator(brought) {
      const { userId, authenticator, lastStep, maxAuthenticators, generation, backupCodes, now } = brought
      const change = changeOf({ userId, generation })
      const { parameters, ...rest } = authenticator
      const { rows, changes } = await write([
        ...claim('claimUserWithRoom', { ...change, maxAuthenticators }),
        query('insertLive', { ...change, ...rest, ...parameters, lastStep }),
        ...(backupCodes ? putCodes(change, backupCodes, 1) : []),
        ...raise(change, now, null),
        query('switchOn', { ...change, now: authenticator.createdAt }),
      ])
      const user = toUser(rows('lockUser')[0])
      if (changes('claimUserWithRoom') === 1) return user.confirmedAt === null ? 'first' : 'added'
      return user.generation === generation ? 'full' : 'stale'
    },

    async renameAuthenticator(userId, authenticatorId, name) {
      const { rows } = await write([
        query('renameAuthenticator', { userId, authenticatorId, name }),
        query('getLive', { userId }),
      ])
      return (
        rows('getLive')
          .map(toAuthenticator)
          .find(({ id }) => id === authenticatorId) ?? null
      )
    },

    async removeAuthenticator(removal) {
      const { userId, authenticatorId, generation, keepFamilyId, now } = removal
      const change = { ...changeOf({ userId, generation }), authenticatorId }
      const { rows, changes } = await write([
        query('lockUser', change),
        query('lockLive', change),
        query('claimUserOfSeveral', change),
        query('deleteAuthenticator', change),
        ...raise(change, now, keepFamilyId),
      ])
      if (changes('claimUserOfSeveral') === 1) return 'removed'
      if (toUser(rows('lockUser')[0]).generation !== generation) return 'stale'
      return rows('lockLive').some(({ id }) => String(id) === authenticatorId) ? 'last' : 'absent'
    },

    async removeFactors(removal) {
      const { userId, generation, token, keepFamilyId, now, limits } = removal
      if (token && (token.generation !== generation || token.expiresAt < now)) return { outcome: 'stale' }
      const method = 'recovery_password'
      const attempt = attemptOf({ userId, method, generation, token, isCounted: false, now, limits })
      const change = { ...changeOf({ userId, generation }, attempt.attemptId), ...attempt }
      const { rows, changes } = await write([
        query('ensureUser', change),
        query('lockUser', change),
        ...(token ? [query('settlePassword', { ...change, isRight: 1 })] : []),
        query('claimUserByToken', change),
        ...(token ? consuming(change, now) : []),
        query('liftLock', { ...change, lockAfter: limits.lockAfter }),
        query('clearConsecutiveFailures', change),
        query('deleteLive', change),
        query('deleteBackupCodes', { ...change, isFirstOnly: 0 }),
        ...raise(change, now, keepFamilyId, 'raiseGenerationOfFactor'),
        query('switchOff', change),
        query('getSettled', change),
      ])
      if (changes('claimUserByToken') === 1) return { outcome: 'removed' }
      const [row] = rows('getSettled')
      const isStale = !isTrue(row?.is_current) || !isTrue(row?.is_unused)
      return (isStale ? null : blockOf(toFailureCount(row, now, limits), now, limits)) ?? { outcome: 'stale' }
    },

    async replaceBackupCodes(userId, codes, generation) {
      const change = changeOf({ userId, generation })
      const { changes } = await write([
        query('lockUser', change),
        query('claimUserWithFactor', change),
        ...putCodes(change, codes),
      ])
      return changes('claimUserWithFactor') === 1
    },

    async listBackupCodes(userId) {
      const rows = await all('listBackupCodes', { userId })
      return rows.map((row) => ({ sealedCode: textOrNull(row.sealed_code), usedAt: numberOrNull(row.used_at) }))
    },

    async noteBackupCodesSaved(userId, now) {
      await run('noteCodesSaved', { userId, now })
    },

    async raiseGeneration(userId, now, { isPasswordSame } = { isPasswordSame: false }) {
      const change = changeOf({ userId })
      await write([
        ...claim('claimAnyUser', change),
        ...raise(change, now, null),
        ...(isPasswordSame ? [] : [query('forgiveRecoveryPasswords', change)]),
      ])
    },

    async forgetUser(userId, now) {
      const change = changeOf({ userId })
      await write([
        ...claim('claimAnyUser', change),
        query('deleteLive', change),
        query('deleteBackupCodes', { ...change, isFirstOnly: 0 }),
        query('clearFailures', change),
        ...raise(change, now, null),
        query('switchOff', change),
      ])
    },

    isTokenUnused: async (tokenId) => (await first('isBurnt', { tokenId })) === undefined,

    async consumeToken({ tokenId, expiresAt }, now) {
      if (expiresAt < now) return false
      const { changes } = await write([
        // First: MySQL keeps a lock on a mark that is there, and many that hold it must not wait for each other.
        query('forgetTwoBurntTokens', { now }),
        query('consumeToken', { tokenId, expiresAt }),
      ])
      return changes('consumeToken') === 1
    },

    async keepTrustedDevice(device, generation) {
      const { changes } = await write([
        query('keepDevice', { ...device, generation }),
        query('forgetTwoDevices', { now: device.createdAt }),
      ])
      return changes('keepDevice') === 1
    },

    async rotateTrustedDevice(rotation) {
      const { changes } = await write([query('rotateDevice', rotation), query('endUnrotatedDevice', rotation)])
      return changes('rotateDevice') === 1 ? 'rotated' : 'dead'
    },

    async listTrustedDevices(userId, now) {
      return (await all('listDevices', { userId, now })).map((row) => toDevice(row, userId))
    },

    endTrustedDevice: async (userId, deviceId) => (await run('endDevice', { userId, deviceId })) === 1,

    endTrustedDevices: (userId) => run('endDevices', { userId }),

    async openFamily({ id, userId, tokenId, expiresAt }, generation, now) {
      await write([
        query('openFamily', { id, userId, tokenId, expiresAt, generation }),
        query('forgetTwoFamilies', { now }),
      ])
    },

    async rotateFamily({ familyId, tokenId, newTokenId, expiresAt, now }) {
      const rotation = { familyId, tokenId, newTokenId, expiresAt, now }
      const { changes } = await write([query('rotateFamily', rotation), query('endUnrotatedFamily', rotation)])
      return changes('rotateFamily') === 1 ? 'rotated' : 'dead'
    },

    raiseFamily: async (raising) => (await run('raiseFamily', raising)) === 1,

    async isFamilyAlive(familyId, tokenId, now) {
      const row = await first('getFamily', { familyId, now })
      return row !== undefined && (tokenId === null || String(row.token_id) === tokenId)
    },

    async endFamily(familyId) {
      await run('endFamily', { familyId })
    },

    async keepKeyCheck(sealed) {
      // First: a start that is refused must leave no canary.
      const version = versionOf(await first('getVersion'))
      checkTables(version, version === null ? await all('listColumns', {}) : [], tables)
      const { rows } = await write([query('keepKeyCheck', { sealed }), query('getKeyCheck')])
      return String(rows('getKeyCheck')[0]?.sealed)
    },

    async countCall({ keyDigest, windowSeconds, now }) {
      const call = { keyDigest, expiresAt: now + windowSeconds, now }
      const { rows } = await write([query('countCall', call), query('getCalls', call), query('forgetTwoCalls', call)])
      return toWindow(rows('getCalls')[0])
    },

    async deleteExpired(now) {
      await write([
        query('deleteExpiredPending', { now }),
        query('deleteExpiredBurntTokens', { now }),
        query('deleteExpiredFamilies', { now }),
        query('deleteExpiredDevices', { now }),
        query('deleteExpiredCalls', { now }),
      ])
    },
  }
}

/** Results by the name of their statement. */
interface Answers {
  rows(of: StatementName): readonly Row[]
  changes(of: StatementName): number
}

function answersTo(queries: readonly Query[], results: readonly Result[]): Answers {
  const resultOf = (name: StatementName) => results[queries.findIndex(({ statement }) => statement === name)]
  return { rows: (of) => resultOf(of)?.rows ?? [], changes: (of) => resultOf(of)?.changes ?? 0 }
}

/** A change of one user's factors: its id marks the user's row, and each statement of the change asks for that mark. */
interface Change {
  userId: string
  changeId: string
  [parameter: string]: SqlParameters[string]
}

function changeOf(of: { userId: string; generation?: number }, changeId: string = randomUUID()): Change {
  return { ...of, changeId }
}

function claim(statement: StatementName, change: Change): Query[] {
  return [query('ensureUser', change), query('lockUser', change), query(statement, change)]
}

/**
 * Raises the generation of a claimed user, and ends what was made under the one before. An enrollment that waits for its
 * first code goes too: whoever began it may have had an access token only, from before the password was changed.
 */
function raise(
  change: Change,
  now: number,
  keepFamilyId: string | null,
  statement: StatementName = 'raiseGeneration',
): Query[] {
  return [
    query(statement, { ...change, now }),
    query('deletePending', change),
    ...(keepFamilyId === null ? [] : [query('keepFamily', { ...change, keepFamilyId })]),
    query('endStaleFamilies', change),
    query('endStaleDevices', change),
  ]
}

/** @param isFirstOnly - 1: only where 2FA was off */
function putCodes(change: Change, codes: readonly BackupCodeRecord[], isFirstOnly = 0): Query[] {
  return [
    query('deleteBackupCodes', { ...change, isFirstOnly }),
    query('forgetCodesSaved', { ...change, isFirstOnly }),
    ...codes.map(({ digest, sealedCode }, position) =>
      query('insertBackupCode', { ...change, isFirstOnly, digest, sealedCode, position }),
    ),
  ]
}

/** What every statement of a settlement needs. */
function attemptOf(of: {
  userId: string
  method: FailureKind
  generation: number
  token: SingleUse | null
  isCounted: boolean
  now: number
  limits: FailureLimits
}) {
  const { userId, method, generation, token, isCounted, now, limits } = of
  return {
    attemptId: randomUUID() as string,
    userId,
    method,
    generation,
    now,
    isCounted: isCounted ? 1 : 0,
    tokenId: token?.tokenId ?? null,
    expiresAt: token?.expiresAt ?? null,
    ...limitParameters(now, limits),
  }
}

function consuming(attempt: SqlParameters, now: number): Query[] {
  return [query('forgetTwoBurntTokens', { now }), query('consumeTokenOfAttempt', attempt)]
}

/** A token that has expired is refused although it was never consumed: its mark may be forgotten. */
export function isExpired({ token, generation, now }: Settlement): boolean {
  return token !== null && (token.expiresAt < now || token.generation !== generation)
}

/** The parameters of a settlement, for every statement of it. */
export function parametersOf(settlement: Settlement) {
  const isCounted = settlement.method === 'totp' && settlement.isCounted
  const {
    authenticatorId = null,
    step = null,
    driftSteps = null,
  } = (settlement.method === 'totp' ? settlement.match : null) ?? {}
  const digests = settlement.method === 'backup_code' ? JSON.stringify(settlement.digests) : null
  return { ...attemptOf({ ...settlement, isCounted }), authenticatorId, step, driftSteps, digests }
}

const SETTLING = {
  totp: { admit: 'settleStep', spend: 'spendStep' },
  backup_code: { admit: 'settleBackupCode', spend: 'spendBackupCode' },
  recovery_password: { admit: 'settlePassword', spend: null },
} as const

/** The statements of a settlement, whatever the verdict: the order in which attempts are admitted must not tell it. */
function settling(settlement: Settlement): {
  queries: Query[]
  read(answers: Answers): Settled
} {
  const { method, token, family, generation, now } = settlement
  const parameters = parametersOf(settlement)
  const { admit, spend } = SETTLING[method]
  const queries = [
    query(admit, { ...parameters, isRight: 0 }),
    ...(spend ? [query(spend, parameters)] : []),
    ...(token ? consuming(parameters, now) : []),
    ...(family
      ? [query('openFamilyOfAttempt', { ...parameters, ...family, generation }), query('forgetTwoFamilies', { now })]
      : []),
    ...(method === 'backup_code' ? [query('countBackupCodes', parameters)] : []),
    query('getSettled', parameters),
  ]
  return {
    queries,
    read({ rows }) {
      const [row] = rows('getSettled')
      const isOwn = row !== undefined && row.attempt_id !== null && String(row.attempt_id) === parameters.attemptId
      const count = toFailureCount(row, now, settlement.limits)
      if (isOwn && count.consecutive === 0) {
        const remaining = method === 'backup_code' ? Number(rows('countBackupCodes')[0]?.remaining) : null
        return { outcome: 'spent', backupCodesRemaining: remaining }
      }
      const budget = budgetOf(count, now, settlement.limits)
      if (isOwn) return { outcome: 'wrong', budget }
      if (!isTrue(row?.is_current) || !isTrue(row?.is_unused)) return { outcome: 'stale' }
      return blockOf(count, now, settlement.limits) ?? { outcome: 'spent_before', budget }
    },
  }
}

/**
 * {@link TotpStore.settleAttempt} within a transaction of the host's. A success is written inside it, and a failure outside,
 * where a roll-back of the host's cannot take it back. There it locks the count of failures and nothing else: the host's
 * transaction may hold the user's row.
 */
export function countedOutside(outside: Runner, inside: Runner, tables: Tables): Pick<TotpStore, 'settleAttempt'> {
  const { settleAttempt } = sqlStore(inside, tables)
  const mayBeRight = async (settlement: Settlement): Promise<boolean> => {
    if (settlement.method !== 'backup_code') return settlement.method === 'totp' && settlement.match !== null
    const [found] = await inside.read([query('findBackupCode', parametersOf(settlement))])
    return found !== undefined && found.rows.length > 0
  }
  return {
    async settleAttempt(settlement) {
      if (isExpired(settlement)) return { outcome: 'stale' }
      if (await mayBeRight(settlement)) return settleAttempt(settlement)
      const { queries, read } = settling(settlement)
      return read(answersTo(queries, await outside.write(queries)))
    },
  }
}

/** @param statements - by what the attempt is against */
export async function readFactorsBy(
  runner: Runner,
  statements: Readonly<Record<Attempt['against'], StatementName>>,
  attempt: Attempt,
): Promise<Factors> {
  const { userId, method, against, token, now, limits } = attempt
  const of = { userId, method, now, period: periodOf(now, limits), tokenId: token?.tokenId ?? null }
  const [result] = await runner.read([query(statements[against], of)])
  return toFactors(result?.rows ?? [], attempt)
}

/** What the rows of `readLive` and `readPending` say. */
function toFactors(rows: readonly Row[], { token, now, limits }: Attempt): Factors {
  const [row] = rows
  const user = toUser(row)
  if (token && (token.generation !== user.generation || token.expiresAt < now || !isTrue(row?.is_unused))) {
    return { outcome: 'stale' }
  }
  if (row === undefined || row.id === null) return { outcome: 'absent' }
  const block = blockOf(toFailureCount(row, now, limits), now, limits)
  return block ?? { outcome: 'open', user, authenticators: rows.map(toAuthenticator) }
}

export function toWindow(row: Row | undefined): { calls: number; endsAt: number } {
  return { calls: Number(row?.calls), endsAt: Number(row?.expires_at) }
}

function byUser(rows: readonly Row[]): Map<string, Row[]> {
  const found = new Map<string, Row[]>()
  for (const row of rows) {
    const userId = String(row.user_id)
    found.set(userId, [...(found.get(userId) ?? []), row])
  }
  return found
}

function toDevice(row: Row, userId: string): TrustedDeviceRecord {
  return {
    id: String(row.id),
    userId,
    name: textOrNull(row.name),
    tokenDigest: String(row.token_digest),
    createdAt: Number(row.created_at),
    lastUsedAt: Number(row.last_used_at),
    expiresAt: Number(row.expires_at),
  }
}

function toUser(row: Row | undefined): UserRecord {
  if (!row || row.generation === null) return { generation: 0, changedAt: 0, confirmedAt: null }
  return {
    generation: Number(row.generation),
    changedAt: Number(row.changed_at),
    confirmedAt: numberOrNull(row.confirmed_at),
  }
}

/** Of a live authenticator, or of a pending one, which has neither been used nor drifted. */
function toAuthenticator(row: Row): AuthenticatorRecord {
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

/** Moved to the period of `now`; no row, no failures. */
export function toFailureCount(row: Row | undefined, now: number, limits: FailureLimits): FailureCount {
  if (row === undefined || row.consecutive === null) return noFailures(periodOf(now, limits))
  return {
    consecutive: Number(row.consecutive),
    blockedUntil: Number(row.blocked_until),
    period: Number(row.period),
    inPeriod: Number(row.in_period),
    inPreviousPeriod: Number(row.in_previous_period),
  }
}

/** SQLite and MySQL answer a condition with a number. */
export function isTrue(value: Row[string] | boolean | undefined): boolean {
  return value === true || Number(value) === 1
}

function numberOrNull(value: Row[string] | undefined): number | null {
  return value === null || value === undefined ? null : Number(value)
}

function textOrNull(value: Row[string] | undefined): string | null {
  return value === null || value === undefined ? null : String(value)
}
