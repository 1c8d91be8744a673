import { deadline } from '../../clock.ts'
import type { Query, Result, Runner } from './batch.ts'
import type { Dialect, SqlParameters } from './dialect.ts'
import { createTable, listColumns, migrationTable, readVersion, statementsToMigrate, versionOf } from './migrations.ts'
import type { StatementName } from './statements.ts'
import type { Tables } from './tables.ts'

/** One connection, held for as long as a transaction takes. */
export interface Session {
  query(statement: StatementName, parameters: SqlParameters): Promise<Result>
  /** A statement that is not one of the store's. */
  text(sql: string): Promise<Result>
  begin(kind: 'read' | 'write'): Promise<void>
  commit(): Promise<void>
  rollback(): Promise<void>
  /** @param broken - the connection is in an unknown state and must not be used again */
  release(broken: boolean): void
}

/** A database on the other side of a socket. */
export interface ConnectionSource {
  acquire(): Promise<Session>
  /** One statement on any connection. */
  query(statement: StatementName, parameters: SqlParameters): Promise<Result>
  /** True when the database has undone the whole transaction for another's sake: doing it again is safe. */
  isRetryable(error: unknown): boolean
}

/** Tries again after so many deadlocks or serialization failures; the next one is an error. */
const MAX_RETRIES = 10

/**
 * A transaction that has taken longer than this is rolled back instead of committed. Shorter than the ten seconds after
 * which a flow answers `unavailable` (`flows/context.ts`): nothing may be committed after its request was refused.
 */
export const MAX_TRANSACTION_MS = 9000

export function pooledRunner(pooled: ConnectionSource): Runner {
  const transaction = async (kind: 'read' | 'write', queries: readonly Query[]): Promise<readonly Result[]> => {
    const isOver = deadline(MAX_TRANSACTION_MS)
    const checkTime = () => {
      if (isOver()) throw new Error(`the transaction took longer than ${MAX_TRANSACTION_MS / 1000} seconds`)
    }
    for (let attempt = 0; ; attempt++) {
      const session = await pooled.acquire()
      let broken = true
      try {
        checkTime()
        await session.begin(kind)
        const results: Result[] = []
        for (const { statement, parameters } of queries) {
          checkTime()
          results.push(await session.query(statement, parameters))
        }
        checkTime()
        await session.commit()
        broken = false
        return results
      } catch (error) {
        broken = !(await rolledBack(session))
        // A commit that failed for any other reason may have happened: it is reported, never repeated.
        if (!pooled.isRetryable(error) || attempt === MAX_RETRIES) throw error
      } finally {
        session.release(broken)
      }
    }
  }
  const run = async (kind: 'read' | 'write', queries: readonly Query[]): Promise<readonly Result[]> => {
    const [only, ...others] = queries
    if (only === undefined || others.length > 0) return transaction(kind, queries)
    return [await pooled.query(only.statement, only.parameters)]
  }
  return { write: (queries) => run('write', queries), read: (queries) => run('read', queries) }
}

/** One statement outside a transaction, sent again while the database undoes it for another's sake. */
export async function repeated<T>(isRetryable: ConnectionSource['isRetryable'], ask: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask()
    } catch (error) {
      if (!isRetryable(error) || attempt === MAX_RETRIES) throw error
    }
  }
}

async function rolledBack(session: Session): Promise<boolean> {
  try {
    await session.rollback()
    return true
  } catch {
    return false
  }
}

interface Migration {
  dialect: Dialect
  tables: Tables
  /** Acquires the migration lock; throws on timeout. */
  lock(session: Session): Promise<void>
  /** Releases the lock, if the end of the transaction does not. */
  unlock?(session: Session): Promise<void>
  /** The error says that a column to be added is there, from a step that broke off. */
  isThere(error: unknown): boolean
}

/**
 * Brings the tables up to date; of processes that start at once, one does it and the others wait.
 *
 * @throws Error when a later version of totp-kit has been at the database, when another tool made the tables and they are
 * not those of this version, or when another process does not come to an end
 */
export async function migratePooled(pooled: ConnectionSource, migration: Migration): Promise<void> {
  const { dialect, tables, isThere } = migration
  const session = await pooled.acquire()
  let broken = true
  try {
    await session.begin('write')
    await migration.lock(session)
    for (const statement of createTable(dialect, tables, migrationTable)) await session.text(statement)
    const version = versionOf((await session.text(readVersion(tables))).rows[0])
    const { rows: columns } = version === null ? await session.text(listColumns(dialect, tables)) : { rows: [] }
    for (const statement of statementsToMigrate(version, columns, dialect, tables)) {
      try {
        await session.text(statement)
      } catch (error) {
        if (!isThere(error)) throw error
      }
    }
    await session.commit()
    await migration.unlock?.(session)
    broken = false
  } finally {
    if (broken) await rolledBack(session)
    session.release(broken)
  }
}
