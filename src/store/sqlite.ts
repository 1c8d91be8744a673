import { checkOptions } from '../check-options.ts'
import { deadline } from '../clock.ts'
import type { Query, Result, Row, Runner } from './sql/batch.ts'
import {
  createTable,
  listColumns,
  migrationTable,
  readVersion,
  statementsToMigrate,
  versionOf,
} from './sql/migrations.ts'
import { sqlStore } from './sql/sql-store.ts'
import { statementsFor } from './sql/statements.ts'
import { SQLITE_OPTIONS, type SqliteOptions, type Tables, tablesOf } from './sql/tables.ts'
import { isBusy, MAX_WAIT_MS, pause, whenFree } from './sql/when-free.ts'
import type { TotpStore } from './store.ts'

export type { SqliteOptions }

/** The parameters of a statement, by name. */
export type SqliteParameters = Record<string, string | number | bigint | null>

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

/** Brings the tables up to date; of processes that start at once, one does it and the others wait for its lock. */
function bringUpToDate(connection: SqliteDatabase, tables: Tables): void {
  inTransaction(connection, 'BEGIN IMMEDIATE', () => {
    for (const statement of createTable('sqlite', tables, migrationTable)) connection.exec(statement)
    const read = (sql: string) => connection.prepare(sql).all({}) as Row[]
    const version = versionOf(read(readVersion(tables))[0])
    const columns = version === null ? read(listColumns('sqlite', tables)) : []
    for (const statement of statementsToMigrate(version, columns, 'sqlite', tables)) connection.exec(statement)
  })
}

/** Runs `work` without a pause, so that no other call of this connection comes between. */
function inTransaction<T>(connection: SqliteDatabase, begin: string, work: () => T): T {
  connection.exec(begin)
  try {
    const value = work()
    connection.exec('COMMIT')
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
  const ask = ({ statement: name, parameters }: Query): Result => {
    const found = prepared.get(name)
    if (found === undefined) throw new Error('the store is closed')
    // Drivers refuse a parameter that the statement does not name, so each gets its own and no more.
    const bindings: SqliteParameters = {}
    for (const parameter of found.parameters) bindings[parameter] = parameters[parameter] ?? null
    if (found.reads) return { rows: found.statement.all(bindings) as Row[], changes: 0 }
    return { rows: [], changes: Number(found.statement.run(bindings).changes) }
  }
  const askAll = (queries: readonly Query[]) => queries.map(ask)
  const write = sharedWrites(connection, askAll)
  return {
    runner: {
      write: (queries) => write(queries),
      read: (queries) =>
        whenFree(() =>
          queries.length === 1 ? askAll(queries) : inTransaction(connection, 'BEGIN', () => askAll(queries)),
        ),
    },
    // libsql keeps the file open for as long as one of its prepared statements is within reach.
    release: () => prepared.clear(),
  }
}

/** A write that waits for its turn. */
interface Waiting {
  queries: readonly Query[]
  isOver: () => boolean
  done(results: readonly Result[]): void
  failed(error: unknown): void
}

/**
 * Writes that are due in one turn of the event loop share one transaction, and with it one wait for the disk. Each has a
 * savepoint of its own, so one that fails fails alone. They are answered after the commit, in order of arrival.
 *
 * While another connection has the file locked, the writes wait outside SQLite, each for five seconds at most, and further
 * ones join them.
 */
function sharedWrites(connection: SqliteDatabase, askAll: (queries: readonly Query[]) => Result[]) {
  const waiting: Waiting[] = []
  let isDue = false

  const writeTogether = (group: readonly Waiting[]): (() => void)[] =>
    inTransaction(connection, 'BEGIN IMMEDIATE', () => {
      if (group.length === 1) return group.map(({ queries, done }) => answer(done, askAll(queries)))
      return group.map(({ queries, done, failed }) => {
        connection.exec('SAVEPOINT one_write')
        try {
          const results = askAll(queries)
          connection.exec('RELEASE one_write')
          return answer(done, results)
        } catch (error) {
          // Where SQLite has ended the whole transaction (a full disk), this throws, and all of them fail.
          connection.exec('ROLLBACK TO one_write')
          connection.exec('RELEASE one_write')
          return answer(failed, error)
        }
      })
    })

  const writeAll = async () => {
    for (let attempt = 0; waiting.length > 0; ) {
      const group = waiting.splice(0)
      try {
        for (const tell of writeTogether(group)) tell()
        attempt = 0
      } catch (error) {
        const goesOn = isBusy(error) ? group.filter(({ isOver }) => !isOver()) : []
        for (const one of group) if (!goesOn.includes(one)) one.failed(error)
        waiting.unshift(...goesOn)
        if (goesOn.length > 0) await pause(attempt++)
      }
    }
    isDue = false
  }

  return (queries: readonly Query[]): Promise<readonly Result[]> =>
    new Promise((done, failed) => {
      waiting.push({ queries, isOver: deadline(MAX_WAIT_MS), done, failed })
      if (isDue) return
      isDue = true
      setImmediate(writeAll)
    })
}

function answer<T>(tell: (value: T) => void, value: T): () => void {
  return () => tell(value)
}
