import type { Result, Row } from './sql/batch.ts'
import { type Bound, batchStore } from './sql/batch-store.ts'
import type { SqliteOptions } from './sql/tables.ts'
import { whenFree } from './sql/when-free.ts'
import type { TotpStore } from './store.ts'

export type { SqliteOptions }

/** What this store needs of a client of `@libsql/client`. */
export interface LibsqlClient {
  /** Runs statements in one transaction, all or none. */
  batch(statements: LibsqlStatement[], mode: 'read' | 'write'): Promise<LibsqlResult[]>
}

/** A statement for {@link LibsqlClient}. */
export interface LibsqlStatement {
  /** Its text. */
  sql: string
  /** The values of its placeholders, by position. */
  args: (string | number | bigint | null)[]
}

/** What a statement gave. */
export interface LibsqlResult {
  /** Its rows, with a member for each column. */
  rows: unknown[]
  /** How many rows were written. */
  rowsAffected: number
}

/**
 * A store in libSQL: Turso, a server of your own, or a file. For any number of processes. `close` leaves the client open.
 * The tables are made by `migrate`.
 *
 * An operation that finds the database locked waits up to five seconds, and the event loop runs meanwhile.
 *
 * @param client - of `@libsql/client`, not an embedded replica (`syncUrl`): it reads what may be out of date
 * @example
 * ```ts
 * import { createClient } from '@libsql/client'
 * import { libsqlStore } from 'totp-kit/store/libsql'
 *
 * const client = createClient({ url: 'libsql://app.turso.io', authToken: process.env.TURSO_AUTH_TOKEN ?? '' })
 * const store = libsqlStore(client, { prefix: 'auth_' })
 * await store.migrate()
 * ```
 *
 * @throws TypeError for an unknown option, or when the prefix is no plain name
 */
export function libsqlStore(client: LibsqlClient, options: SqliteOptions = {}): TotpStore {
  const run = async (statements: readonly Bound[], kind: 'read' | 'write'): Promise<Result[]> => {
    const batch = statements.map(({ sql, values }) => ({ sql, args: values }))
    const results = await whenFree(() => client.batch(batch, kind))
    return results.map(({ rows, rowsAffected }) => ({ rows: rows as Row[], changes: rowsAffected }))
  }
  return batchStore(run, options)
}
