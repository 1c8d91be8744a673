import { checkOptions, type OptionNames } from '../check-options.ts'
import { deadline } from '../clock.ts'
import type { SqlValue } from './sql/dialect.ts'
import {
  createTable,
  listColumns,
  migrationTable,
  readVersion,
  statementsToMigrate,
  versionOf,
} from './sql/migrations.ts'
import { type Runner, sqlStore } from './sql/sql-store.ts'
import { statementsFor } from './sql/statements.ts'
import { type TableOptions, type Tables, tablesOf } from './sql/tables.ts'
import type { Query, Result, Row, Work } from './sql/work.ts'
import type { TotpStore } from './store.ts'

/** The parameters of a statement, by name. */
export type SqliteParameters = Record<string, string | number | bigint | null>

/** The options of {@link sqliteStore}. */
export type SqliteOptions = Pick<TableOptions, 'prefix'>

const SQLITE_OPTIONS: OptionNames<SqliteOptions> = { prefix: true }

/** What this store needs of a prepared statement; `node:sqlite`, `better-sqlite3` and `libsql` all have it. */
export interface SqliteStatement {
  /** Runs a statement that returns no rows. */
  run(parameters: SqliteParameters): { changes: number | bigint }
  /** Runs a statement and returns all its rows. */
  all(parameters: SqliteParameters): unknown[]
}

/** What this store needs of a database connection; `node:sqlite`, `better-sqlite3` and `libsql` all have it. */
export interface SqliteDatabase {
  /** Runs SQL text without parameters. */
  exec(sql: string): unknown
  /** Prepares a statement. */
  prepare(sql: string): SqliteStatement
  /** Closes the connection. */
  close(): unknown
}

/**
 * A store in an SQLite file, for one machine; several processes may share the file. Opens it with whichever driver is
 * there (see {@link openSqlite}) and brings the tables up to date.
 *
 * An operation that finds the file locked, by another process or by another connection of this one, waits up to five
 * seconds. The event loop runs meanwhile, with a connection of the host's own only where its `busy_timeout` is 0.
 *
 * @param database - a path (`:memory:` for a database in memory), or a connection of the host's own, which stays the
 * host's to close; the host must not have a transaction open on it across an `await`
 *
 * @example
 * ```ts run
 * import { sqliteStore } from 'totp-kit/store/sqlite'
 *
 * const store = await sqliteStore(':memory:', { prefix: 'auth_' })
 * await store.close()
 * ```
 */
export async function sqliteStore(database: string | SqliteDatabase, options: SqliteOptions = {}): Promise<TotpStore> {
  checkOptions(options, SQLITE_OPTIONS)
  const tables = tablesOf(options)
  const own = typeof database === 'string'
  const connection = own ? await openSqlite(database) : database
  // The driver would wait within the call, and nothing else in the process would run. We wait outside it.
  if (own) connection.exec('PRAGMA busy_timeout = 0')
  const migrate = () => whenFree(() => bringUpToDate(connection, tables))
  try {
    await migrate()
    const { runner, release } = runnerOn(connection, tables)
    return {
      ...sqlStore(runner, tables),
      migrate,
      async close() {
        release()
        if (own) connection.close()
      },
    }
  } catch (error) {
    if (own) connection.close()
    throw error
  }
}

/**
 * Opens an SQLite file with `node:sqlite` (Node 22.13 and later), else `better-sqlite3`, else `libsql`, in WAL mode. The
 * connection waits up to five seconds for another one's lock, within the call, which holds up the event loop.
 *
 * @throws Error when none of the three is there, or the file cannot be opened, made or written to
 */
export async function openSqlite(path: string): Promise<SqliteDatabase> {
  const Database = await loadDriver()
  let connection: SqliteDatabase | null = null
  try {
    const opened = new Database(path)
    connection = opened
    opened.exec('PRAGMA busy_timeout = 0')
    // better-sqlite3 is built with NORMAL, under which a power cut forgets what was spent last.
    await whenFree(() => opened.exec('PRAGMA synchronous = FULL'))
    // Where several processes do this to a new file at once, SQLite refuses some of them.
    await whenFree(() => opened.exec('PRAGMA journal_mode = WAL'))
    opened.exec(`PRAGMA busy_timeout = ${MAX_WAIT_MS}`)
    return opened
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

/** How long an operation waits for the lock of another connection. */
const MAX_WAIT_MS = 5000
/** From one try to the next: SQLite's own schedule, which is short at first because most locks are. */
const WAITS_MS = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50] as const

/**
 * Does `work` when no other connection has the file locked. `work` has done nothing when it throws SQLITE_BUSY. Between
 * two tries the event loop runs: the lock may belong to a transaction of this very process, which needs it to end.
 */
async function whenFree<T>(work: () => T): Promise<T> {
  const isOver = deadline(MAX_WAIT_MS)
  for (let attempt = 0; ; attempt++) {
    try {
      return work()
    } catch (error) {
      if (!isBusy(error) || isOver()) throw error
    }
    const milliseconds = WAITS_MS[Math.min(attempt, WAITS_MS.length - 1)]
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
  }
}

/** SQLITE_BUSY and its extended codes, whose lowest byte is 5: as a text or a number, by driver. */
function isBusy(error: unknown): boolean {
  const { code, errcode, rawCode } = error as { code?: unknown; errcode?: unknown; rawCode?: unknown }
  const number = typeof errcode === 'number' ? errcode : rawCode
  return String(code).startsWith('SQLITE_BUSY') || (typeof number === 'number' && (number & 0xff) === 5)
}

/** Brings the tables up to date; of processes that start at once, one does it and the others wait for its lock. */
function bringUpToDate(connection: SqliteDatabase, tables: Tables): void {
  inTransaction(connection, 'BEGIN IMMEDIATE', () => {
    for (const statement of createTable('sqlite', tables, migrationTable)) connection.exec(statement)
    const read = (sql: string) => connection.prepare(sql).all({}) as Row[]
    const version = versionOf(read(readVersion(tables))[0])
    const columns = version === null ? read(listColumns('sqlite', tables)) : []
    for (const statement of statementsToMigrate(version, columns, 'sqlite', tables)) connection.exec(statement)
    return { value: null, keep: true }
  })
}

/** Runs `work` without a pause, so that no other call of this connection comes between; keeps it when it says so. */
function inTransaction<T>(connection: SqliteDatabase, begin: string, work: () => { value: T; keep: boolean }): T {
  connection.exec(begin)
  try {
    const { value, keep } = work()
    connection.exec(keep ? 'COMMIT' : 'ROLLBACK')
    return value
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

function runnerOn(connection: SqliteDatabase, tables: Tables): { runner: Runner; release: () => void } {
  const prepared = new Map(
    Object.entries(statementsFor('sqlite', tables)).map(([name, { text, parameters }]) => [
      name,
      { statement: connection.prepare(text), parameters, reads: text.startsWith('SELECT') },
    ]),
  )
  const query = ({ statement: name, parameters: given }: Query): Result => {
    const found = prepared.get(name)
    if (found === undefined) throw new Error('the store is closed')
    // Drivers refuse a parameter that the statement does not name, so each gets its own and no more.
    const own: SqliteParameters = {}
    for (const parameter of found.parameters) own[parameter] = (given[parameter] ?? null) as SqlValue
    if (found.reads) return { rows: found.statement.all(own) as Row[], changes: 0 }
    return { rows: [], changes: Number(found.statement.run(own).changes) }
  }
  const perform = <T>(work: () => Work<T>): T => {
    const steps = work()
    let next = steps.next()
    while (!next.done) next = steps.next(query(next.value))
    return next.value
  }
  const transaction = <T>(begin: string, work: () => Work<T>, keep: (result: T) => boolean): T =>
    inTransaction(connection, begin, () => {
      const value = perform(work)
      return { value, keep: keep(value) }
    })
  return {
    runner: {
      write: (work, keep) => whenFree(() => transaction('BEGIN IMMEDIATE', work, keep)),
      read: (work) => whenFree(() => transaction('BEGIN', work, () => true)),
      single: (work) => whenFree(() => perform(work)),
    },
    // libsql keeps the file open for as long as one of its prepared statements is within reach.
    release: () => prepared.clear(),
  }
}
