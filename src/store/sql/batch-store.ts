import { checkOptions } from '../../check-options.ts'
import type { TotpStore } from '../store.ts'
import type { Query, Result, Row } from './batch.ts'
import { numbered, type SqlValue } from './dialect.ts'
import { createTable, listColumns, migrationTable, readVersion, statementsToMigrate, versionOf } from './migrations.ts'
import { sqlStore } from './sql-store.ts'
import { type Statements, statementsFor } from './statements.ts'
import { SQLITE_OPTIONS, type SqliteOptions, tablesOf } from './tables.ts'

/** A statement as it is sent: its placeholders are `?1`, `?2`, … */
export interface Bound {
  sql: string
  values: SqlValue[]
}

/** Runs statements in one transaction, all or none; gives a result for each. */
export type RunBatch = (statements: readonly Bound[], kind: 'read' | 'write') => Promise<Result[]>

/**
 * A store in an SQLite database whose driver has no transaction that stays open between two statements, but runs a list of
 * statements as one.
 */
export function batchStore(run: RunBatch, options: SqliteOptions): TotpStore {
  checkOptions(options, SQLITE_OPTIONS)
  const tables = tablesOf(options)
  const named = Object.entries(statementsFor('sqlite', tables))
  const statements = Object.fromEntries(named.map(([name, statement]) => [name, numbered(statement)])) as Statements
  const bind = ({ statement, parameters }: Query): Bound => {
    const { text, parameters: names } = statements[statement]
    return { sql: text, values: names.map((name) => parameters[name] ?? null) }
  }
  const runner = {
    write: (queries: readonly Query[]) => run(queries.map(bind), 'write'),
    read: (queries: readonly Query[]) => run(queries.map(bind), 'read'),
  }

  const read = async (sql: string): Promise<readonly Row[]> => (await run([{ sql, values: [] }], 'read'))[0]?.rows ?? []
  const version = async (): Promise<number | null> => {
    const isThere = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name = '${tables.migration}'`
    if ((await read(isThere)).length === 0) return null
    return versionOf((await read(readVersion(tables)))[0])
  }
  const migrate = async (): Promise<void> => {
    for (;;) {
      const before = await version()
      const columns = before === null ? await read(listColumns('sqlite', tables)) : []
      const steps = [
        ...createTable('sqlite', tables, migrationTable),
        ...statementsToMigrate(before, columns, 'sqlite', tables),
      ]
      try {
        await run(
          steps.map((sql) => ({ sql, values: [] })),
          'write',
        )
        return
      } catch (error) {
        // Of several that start at once, the first one has taken the steps. The others fail as a whole, and look again.
        if ((await version()) === before) throw error
      }
    }
  }

  return { ...sqlStore(runner, tables), migrate, async close() {} }
}
