import { checkOptions } from '../check-options.ts'
import type { Result, Row } from './sql/batch.ts'
import type { SqlParameters, Statement } from './sql/dialect.ts'
import { hostTransaction, type WithinOptions } from './sql/host-transaction.ts'
import { type ConnectionSource, migratePooled, pooledRunner, repeated, type Session } from './sql/pooled.ts'
import { countedOutside, readFactorsBy, sqlStore } from './sql/sql-store.ts'
import { type Statements, statementsFor } from './sql/statements.ts'
import { TABLE_OPTIONS, type TableOptions, tablesOf } from './sql/tables.ts'
import type { TotpStore } from './store.ts'

export type { TableOptions, WithinOptions }

/** What this store needs of a connection of `mysql2/promise`. */
export interface MysqlConnection {
  /** Runs a prepared statement. */
  execute(sql: string, values?: never[]): Promise<[unknown, unknown]>
  /** Runs SQL text. */
  query(sql: string): Promise<[unknown, unknown]>
}

/** A pool of `mysql2/promise`. */
export interface MysqlPool extends MysqlConnection {
  /** Lends a connection. */
  getConnection(): Promise<MysqlConnection & { release(): void; destroy(): void }>
}

/** A store in MySQL or MariaDB, which can also work inside a transaction of yours. */
export interface MysqlStore extends TotpStore {
  /**
   * The same store within a transaction that the host has open on `connection`, so that an enrollment commits with the
   * host's own rows or not at all. Failures are counted outside it, on the store's own pool: a roll-back of the host's
   * must not give guesses back (Vikunja, CVE-2026-35597).
   *
   * Nothing is sent after the host has ended its transaction or has given the connection back, after the deadline, or
   * after an abort. A call that is refused by one of these has changed nothing. Calls at once take turns.
   *
   * @throws RangeError when `deadlineMs` is out of range
   */
  within(connection: MysqlConnection, options?: WithinOptions): TotpStore
}

/**
 * A store in MySQL 8 or MariaDB 10.11, for any number of processes. Uses the host's own pool and opens no second one;
 * `close` leaves it open. The tables are made by `migrate`, or by `totp-kit migrate`.
 *
 * @param pool - of `mysql2/promise`; from `mysql2` it is `pool.promise()`
 * @example
 * ```ts
 * import { createPool } from 'mysql2/promise'
 * import { mysqlStore } from 'totp-kit/store/mysql'
 *
 * const store = mysqlStore(createPool('mysql://app@localhost/app'), { prefix: 'auth_' })
 * await store.migrate()
 * ```
 *
 * @throws TypeError for an unknown option, or when prefix or schema is no plain name
 */
export function mysqlStore(pool: MysqlPool, options: TableOptions = {}): MysqlStore {
  checkOptions(options, TABLE_OPTIONS)
  const tables = tablesOf(options)
  const statements = statementsFor('mysql', tables)
  const pooled = poolOf(pool, statements)
  // Digested, because MySQL takes no lock's name of more than 64 characters (§14.14 of the manual).
  const lock = `SHA1('totp-kit:${tables.migration}')`
  const runner = pooledRunner(pooled)
  const store: TotpStore = {
    ...sqlStore(runner, tables),
    migrate: () =>
      migratePooled(pooled, {
        dialect: 'mysql',
        tables,
        async lock(session) {
          const { rows } = await session.text(`SELECT GET_LOCK(${lock}, ${LOCK_SECONDS}) AS is_held`)
          // 0 after the time, NULL where the wait was killed: to go on would be to make the tables beside another.
          if (Number(rows[0]?.is_held) !== 1) {
            throw new Error(`timed out after ${LOCK_SECONDS} s waiting for another process to finish the migration`)
          }
        },
        async unlock(session) {
          await session.text(`SELECT RELEASE_LOCK(${lock})`)
        },
        isThere: (error) => errorNumber(error) === DUPLICATE_COLUMN,
      }),
    async close() {},
  }
  return {
    ...store,
    within(connection, options) {
      const inside = pooledRunner(savepoints(connection, statements, options))
      return {
        ...sqlStore(inside, tables),
        ...countedOutside(runner, inside, tables),
        // The host's snapshot (REPEATABLE READ) may be of before an enrollment that has begun since.
        readFactors: (attempt) => readFactorsBy(inside, { live: 'readLiveNow', pending: 'readPendingNow' }, attempt),
        getFailureBudget: store.getFailureBudget,
        countCall: store.countCall,
        migrate: store.migrate,
        close: store.close,
      }
    },
  }
}

/** All steps together take a second or two; of ten processes that start at once each still gets its turn. */
const LOCK_SECONDS = 60

/** Deadlock, and a row changed since the snapshot (MariaDB): InnoDB has undone the transaction. */
const UNDONE = new Set([1213, 1020])
const isRetryable = (error: unknown) => UNDONE.has(errorNumber(error))
/** MySQL has no ADD COLUMN IF NOT EXISTS, as MariaDB has. */
const DUPLICATE_COLUMN = 1060

function errorNumber(error: unknown): number {
  return Number((error as { errno?: unknown } | null)?.errno)
}

function poolOf(pool: MysqlPool, statements: Statements): ConnectionSource {
  return {
    async acquire() {
      const connection = await pool.getConnection()
      const release = (broken: boolean) => (broken ? connection.destroy() : connection.release())
      return { ...sessionOn(connection, statements), release }
    },
    query: (name, parameters) => repeated(isRetryable, () => ask(pool, statements[name], parameters)),
    isRetryable,
  }
}

/** Within a transaction of the host's: ours is a savepoint in it, and is never repeated. */
function savepoints(connection: MysqlConnection, statements: Statements, options?: WithinOptions): ConnectionSource {
  const session = sessionOn(connection, statements)
  // The promises of `mysql2` are a shell around the connection proper, which the host may use directly.
  const { connection: inner } = connection as { connection?: object }
  const transaction = hostTransaction(inner ?? connection, session.text, options)
  return {
    acquire: () => transaction.acquire(session),
    query: (name, parameters) => transaction.single(session, name, parameters),
    isRetryable: () => false,
  }
}

function sessionOn(connection: MysqlConnection, statements: Statements): Omit<Session, 'release'> {
  const text = (sql: string) => connection.query(sql).then(toResult)
  return {
    text,
    query: (name, parameters) => ask(connection, statements[name], parameters),
    async begin(kind) {
      // Whatever the host's default. Without gap locks (§17.7.2.1 of the manual) two users' first rows do not wait for each
      // other; where READ COMMITTED is the default, two reads would not be of one moment.
      await text(`SET TRANSACTION ISOLATION LEVEL ${kind === 'write' ? 'READ COMMITTED' : 'REPEATABLE READ'}`)
      await text(kind === 'write' ? 'START TRANSACTION' : 'START TRANSACTION READ ONLY')
    },
    commit: () => text('COMMIT').then(() => undefined),
    rollback: () => text('ROLLBACK').then(() => undefined),
  }
}

/** Sends a statement that the server parses once per connection. */
async function ask(connection: MysqlConnection, statement: Statement, parameters: SqlParameters): Promise<Result> {
  const values = statement.parameters.map((parameter) => parameters[parameter] ?? null)
  return toResult(await connection.execute(statement.text, values as never[]))
}

function toResult([result]: [unknown, unknown]): Result {
  if (Array.isArray(result)) return { rows: result as Row[], changes: 0 }
  return { rows: [], changes: Number((result as { affectedRows?: number }).affectedRows ?? 0) }
}
