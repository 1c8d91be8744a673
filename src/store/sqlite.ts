import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'
import type { OtpAlgorithm } from '../otp/hotp.ts'
import type { FailureLimits } from '../policy.ts'
import { type FailureCount, periodOf, refusalOf } from './failures.ts'
import { isOutdated } from './single-use.ts'
import { migrations } from './sql/migrations.ts'
import { statements } from './sql/statements.ts'
import type { AuthenticatorRecord, BackupCodeRecord, Reservation, TotpStore, UserRecord } from './store.ts'

type SqlValue = string | number | bigint | null
type Parameters = Record<string, SqlValue>

/** What this store needs of a prepared statement; `node:sqlite`, `better-sqlite3` and `libsql` all have it. */
export interface SqliteStatement {
  run(parameters: Parameters): { changes: number | bigint }
  all(parameters: Parameters): unknown[]
}

/** What this store needs of a database connection; `node:sqlite`, `better-sqlite3` and `libsql` all have it. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
}

/**
 * A store in an SQLite file, for one machine; several processes may share the file. Opens it with whichever driver is
 * there (see {@link openSqlite}) and brings the tables up to date.
 *
 * @param database - a path (`:memory:` for a database in memory), or a connection of the host's own, which stays the
 * host's to close; the host must not have a transaction open on it across an `await`
 */
export async function sqliteStore(database: string | SqliteDatabase): Promise<TotpStore> {
  const own = typeof database === 'string'
  const connection = own ? await openSqlite(database) : database
  try {
    migrate(connection)
    return storeOn(connection, own)
  } catch (error) {
    if (own) connection.close()
    throw error
  }
}

/**
 * Opens an SQLite file with `node:sqlite` (Node 22.13 and later), else `better-sqlite3`, else `libsql`, in WAL mode,
 * waiting up to five seconds for another process's lock.
 *
 * @throws Error when none of the three is there, or the file cannot be opened, made or written to
 */
export async function openSqlite(path: string): Promise<SqliteDatabase> {
  const Database = await loadDriver()
  let connection: SqliteDatabase | null = null
  try {
    connection = new Database(path)
    connection.exec('PRAGMA busy_timeout = 5000')
    // better-sqlite3 is built with NORMAL, under which a power cut forgets what was spent last.
    connection.exec('PRAGMA synchronous = FULL')
    switchToWal(connection)
    return connection
  } catch (cause) {
    connection?.close()
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`the SQLite database ${path} cannot be opened for writing: ${reason}`, { cause })
  }
}

type Driver = new (path: string) => SqliteDatabase

async function loadDriver(): Promise<Driver> {
  const drivers: { name: string; pick: (module: Record<string, unknown>) => unknown }[] = [
    { name: 'node:sqlite', pick: ({ DatabaseSync }) => DatabaseSync },
    { name: 'better-sqlite3', pick: (module) => module.default },
    { name: 'libsql', pick: (module) => module.default },
  ]
  for (const { name, pick } of drivers) {
    try {
      return pick(await import(name)) as Driver
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'ERR_UNKNOWN_BUILTIN_MODULE') throw error
    }
  }
  throw new Error('no SQLite driver found: use Node 22.13 or later, or install better-sqlite3 or libsql')
}

/**
 * Puts a file into WAL mode, which it keeps. Where several processes do that to a new file at once, SQLite refuses some
 * of them without waiting; they wait with a transaction, which does, and look again.
 */
function switchToWal(connection: SqliteDatabase): void {
  for (let triesLeft = 10; ; triesLeft--) {
    try {
      connection.exec('PRAGMA journal_mode = WAL')
      return
    } catch (error) {
      if (triesLeft === 0) throw error
    }
    connection.exec('BEGIN IMMEDIATE')
    connection.exec('COMMIT')
  }
}

/** Brings the tables up to date; of processes that start at once, one does it and the others wait for its lock. */
function migrate(connection: SqliteDatabase): void {
  connection.exec('BEGIN IMMEDIATE')
  try {
    connection.exec('CREATE TABLE IF NOT EXISTS totp_migration (version INTEGER PRIMARY KEY) STRICT')
    const [row] = connection.prepare('SELECT max(version) AS version FROM totp_migration').all({}) as [Row]
    const done = Number(row.version ?? 0)
    if (done > migrations.length) throw new Error('the database was made by a later version of totp-kit')
    for (const [index, step] of migrations.entries()) {
      if (index < done) continue
      connection.exec(step)
      connection.prepare('INSERT INTO totp_migration (version) VALUES (:version)').run({ version: index + 1 })
    }
    connection.exec('COMMIT')
  } catch (error) {
    rollBack(connection)
    throw error
  }
}

/** After an error of which SQLite may have ended the transaction by itself (a full disk): that one is to be told. */
function rollBack(connection: SqliteDatabase): void {
  try {
    connection.exec('ROLLBACK')
  } catch {
    // Either there is nothing to roll back, or the next BEGIN fails and says so.
  }
}

type Row = Record<string, SqlValue>
type StatementName = keyof typeof statements

function storeOn(connection: SqliteDatabase, own: boolean): TotpStore {
  const prepared = new Map(
    Object.entries(statements).map(([name, sql]) => [
      name,
      { statement: connection.prepare(sql), names: namesIn(sql) },
    ]),
  )
  const find = (name: StatementName) => {
    const found = prepared.get(name)
    if (found === undefined) throw new Error('the store is closed')
    return found
  }

  /** Drivers refuse a parameter that the statement does not name, so each gets its own and no more. */
  const pick = (names: readonly string[], parameters: Parameters): Parameters =>
    Object.fromEntries(names.map((name) => [name, parameters[name] ?? null]))
  const run = (name: StatementName, parameters: Parameters): number => {
    const { statement, names } = find(name)
    return Number(statement.run(pick(names, parameters)).changes)
  }
  const all = (name: StatementName, parameters: Parameters): Row[] => {
    const { statement, names } = find(name)
    return statement.all(pick(names, parameters)) as Row[]
  }
  const first = (name: StatementName, parameters: Parameters): Row | undefined => all(name, parameters)[0]

  /** Runs without a pause, so that no other call of this connection comes between. A refusal writes nothing. */
  const atomically = <T>(work: () => T, succeeded: (result: T) => boolean, begin = 'BEGIN IMMEDIATE'): T => {
    connection.exec(begin)
    try {
      const result = work()
      connection.exec(succeeded(result) ? 'COMMIT' : 'ROLLBACK')
      return result
    } catch (error) {
      rollBack(connection)
      throw error
    }
  }

  const getUser = (userId: string): UserRecord => {
    const row = first('getUser', { userId })
    if (!row) return { generation: 0, changedAt: 0, confirmedAt: null }
    return {
      generation: Number(row.generation),
      changedAt: Number(row.changed_at),
      confirmedAt: row.confirmed_at === null ? null : Number(row.confirmed_at),
    }
  }
  const raise = (userId: string, now: UnixSeconds, keepFamilyId: string | null): void => {
    const generation = Number(first('raiseGeneration', { userId, now })?.generation)
    run('keepFamily', { userId, keepFamilyId, generation })
    run('endStaleFamilies', { userId, generation })
  }
  const putCodes = (userId: string, codes: readonly BackupCodeRecord[]): void => {
    run('deleteBackupCodes', { userId })
    codes.forEach(({ digest, sealedCode }, position) => {
      run('insertBackupCode', { userId, digest, sealedCode, position })
    })
  }
  const remaining = (userId: string): number => Number(first('countBackupCodes', { userId })?.remaining)

  const refusal = (userId: string, method: SecondFactorMethod, now: UnixSeconds, limits: FailureLimits) => {
    const row = first('getFailures', { userId, method, period: periodOf(now, limits) })
    return row ? refusalOf(toFailureCount(row), now, limits) : null
  }

  return {
    async getUser(userId) {
      return getUser(userId)
    },

    async getStatus(userId, now, limits) {
      return atomically(
        () => {
          const refused = refusal(userId, 'totp', now, limits)
          return {
            user: getUser(userId),
            authenticators: all('getLive', { userId }).map(toAuthenticator),
            backupCodesRemaining: remaining(userId),
            hasPending: first('getPending', { userId, now }) !== undefined,
            lockedUntil: refused === null ? null : refused.outcome === 'locked' ? 'forever' : refused.retryAt,
          }
        },
        () => true,
        'BEGIN',
      )
    },

    async reserveAttempt({ userId, method, against, challenge, now, limits }) {
      return atomically<Reservation>(
        () => {
          const user = getUser(userId)
          if (challenge && (isOutdated(challenge, user, now) || first('isBurnt', { tokenId: challenge.tokenId }))) {
            return { outcome: 'stale' }
          }
          const row = first(against === 'live' ? 'getLive' : 'getPending', { userId, now })
          if (!row) return { outcome: 'absent' }
          const { beforeDelay, firstDelaySeconds, maxDelaySeconds, hardCap, total } = limits
          const numbers = { beforeDelay, firstDelaySeconds, maxDelaySeconds, hardCap, total }
          const reserved = first('reserveAttempt', { userId, method, now, period: periodOf(now, limits), ...numbers })
          if (reserved) return { outcome: 'reserved', user, authenticator: toAuthenticator(row) }
          const refused = refusal(userId, method, now, limits)
          if (refused === null) throw new Error('an attempt was refused without a reason')
          return refused
        },
        ({ outcome }) => outcome === 'reserved',
      )
    },

    async spend(spending) {
      const { userId, challenge, generation, now, method } = spending
      return atomically(
        () => {
          const user = getUser(userId)
          if (generation !== user.generation) return { outcome: 'stale' }
          if (challenge && (isOutdated(challenge, user, now) || run('burnToken', { ...challenge }) === 0)) {
            return { outcome: 'stale' }
          }
          const spent =
            spending.method === 'totp'
              ? run('spendStep', { userId, authenticatorId: spending.authenticatorId, step: spending.step, now }) === 1
              : spending.digests.some((digest) => run('spendBackupCode', { userId, digest, now }) === 1)
          if (!spent) return { outcome: 'refused' }
          run('giveBackAttempt', { userId, method })
          if (challenge) run('forgetBurntTokens', { now })
          return { outcome: 'spent', backupCodesRemaining: remaining(userId) }
        },
        ({ outcome }) => outcome === 'spent',
      )
    },

    async putPending(userId, { parameters, ...pending }, generation) {
      return atomically(
        () => {
          if (getUser(userId).generation !== generation) return false
          run('putPending', { userId, ...pending, ...parameters })
          return true
        },
        (done) => done,
      )
    },

    async activatePending({ userId, authenticatorId, step, generation, backupCodes, keepFamilyId, now }) {
      return atomically(
        () => {
          if (getUser(userId).generation !== generation) return false
          if (run('copyPendingToLive', { userId, authenticatorId, step, now }) === 0) return false
          run('deleteOtherLive', { userId, authenticatorId })
          run('deletePending', { userId })
          if (backupCodes) putCodes(userId, backupCodes)
          run('giveBackAttempt', { userId, method: 'totp' })
          raise(userId, now, keepFamilyId)
          run('switchOn', { userId, now })
          return true
        },
        (done) => done,
      )
    },

    async removeFactors({ userId, generation, keepFamilyId, now }) {
      return atomically(
        () => {
          const user = getUser(userId)
          if (user.generation !== generation) return false
          run('deletePending', { userId })
          if (user.confirmedAt === null) return true
          run('deleteLive', { userId })
          run('deleteBackupCodes', { userId })
          run('clearConsecutiveFailures', { userId })
          raise(userId, now, keepFamilyId)
          run('switchOff', { userId })
          return true
        },
        (done) => done,
      )
    },

    async replaceBackupCodes(userId, codes, generation) {
      return atomically(
        () => {
          const user = getUser(userId)
          if (user.confirmedAt === null || user.generation !== generation) return false
          putCodes(userId, codes)
          return true
        },
        (done) => done,
      )
    },

    async listBackupCodes(userId) {
      return all('listBackupCodes', { userId }).map((row) => ({
        sealedCode: row.sealed_code as string | null,
        usedAt: row.used_at === null ? null : Number(row.used_at),
      }))
    },

    async raiseGeneration(userId, now) {
      atomically(
        () => raise(userId, now, null),
        () => true,
      )
    },

    async isUnburnt(tokenId) {
      return first('isBurnt', { tokenId }) === undefined
    },

    async openFamily({ id, userId, tokenId, expiresAt }, generation, now) {
      atomically(
        () => {
          run('openFamily', { id, userId, tokenId, expiresAt, generation })
          run('forgetFamilies', { now })
        },
        () => true,
      )
    },

    async rotateFamily({ familyId, tokenId, newTokenId, expiresAt, now }) {
      return atomically(
        () => {
          if (run('rotateFamily', { familyId, tokenId, newTokenId, expiresAt, now }) === 1) return 'rotated'
          run('endFamily', { familyId })
          return 'dead'
        },
        () => true,
      )
    },

    async isFamilyAlive(familyId, tokenId, now) {
      return first('isFamilyAlive', { familyId, tokenId, now }) !== undefined
    },

    async endFamily(familyId) {
      run('endFamily', { familyId })
    },

    async keepCanary(sealed) {
      run('keepCanary', { sealed })
      return String(first('getCanary', {})?.sealed)
    },

    async close() {
      // libsql keeps the file open for as long as one of its prepared statements is within reach.
      prepared.clear()
      if (own) connection.close()
    },
  }
}

function namesIn(sql: string): readonly string[] {
  return [...new Set(Array.from(sql.matchAll(/:(\w+)/g), ([, name]) => String(name)))]
}

function toAuthenticator(row: Row): AuthenticatorRecord {
  return {
    id: String(row.id),
    name: row.name as string | null,
    sealedSecret: String(row.sealed_secret),
    parameters: {
      algorithm: row.algorithm as OtpAlgorithm,
      digits: Number(row.digits),
      periodSeconds: Number(row.period_seconds),
    },
    createdAt: Number(row.created_at),
    lastUsedAt: row.last_used_at == null ? null : Number(row.last_used_at),
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
