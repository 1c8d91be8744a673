import type { Result, Row } from './sql/batch.ts'
import { type Bound, batchStore } from './sql/batch-store.ts'
import type { SqliteOptions } from './sql/tables.ts'
import type { TotpStore } from './store.ts'

export type { SqliteOptions }

/** What this store needs of a D1 database. */
export interface D1Database {
  /** Makes a statement of SQL text. */
  prepare(sql: string): D1Statement
  /** Runs statements in one transaction, all or none. */
  batch(statements: D1Statement[]): Promise<D1Result[]>
}

/** A statement of {@link D1Database}. */
export interface D1Statement {
  /** The statement with the values of its placeholders, by position. */
  bind(...values: (string | number | bigint | null)[]): D1Statement
}

/** What a statement gave. */
export interface D1Result {
  /** Its rows, with a member for each column. */
  results: unknown[]
  /** What D1 says of the statement. */
  meta: {
    /** How many rows were written. */
    changes: number
  }
}

/**
 * A store in Cloudflare D1, for any number of Workers. The tables are made by `migrate`, or by `wrangler d1 migrations` of
 * what `totp-kit schema --dialect sqlite` prints.
 *
 * @param database - the binding itself: a session of it (`withSession`) may read from a replica that is out of date
 * @example
 * ```ts
 * import { type D1Database, d1Store } from 'totp-kit/store/d1'
 *
 * export async function storeOf(env: { DB: D1Database }) {
 *   const store = d1Store(env.DB, { prefix: 'auth_' })
 *   await store.migrate()
 *   return store
 * }
 * ```
 *
 * @throws TypeError for an unknown option, or when the prefix is no plain name
 */
export function d1Store(database: D1Database, options: SqliteOptions = {}): TotpStore {
  const run = async (statements: readonly Bound[]): Promise<Result[]> => {
    const results = await database.batch(statements.map(({ sql, values }) => database.prepare(sql).bind(...values)))
    return results.map(({ results: rows, meta }) => ({ rows: rows as Row[], changes: meta.changes }))
  }
  return batchStore(run, options)
}
