import type { SqlParameters, SqlValue } from './dialect.ts'
import type { StatementName } from './statements.ts'

/**
 * How the SQL stores talk to a database: an operation is a list of statements that is complete before the first one is
 * sent. They stand or fall together, and no JavaScript runs between two of them. What one statement must know of another it
 * asks for in SQL: the first one of a write marks a row with an id of its own, and the later ones ask for that row. So an
 * operation is one commit on SQLite, and runs where transactions cannot stay open: Cloudflare D1, Turso.
 */
export interface Query {
  statement: StatementName
  parameters: SqlParameters
}

export type Row = Readonly<Record<string, SqlValue>>

/** What a statement gave. */
export interface Result {
  rows: readonly Row[]
  /** Rows written. */
  changes: number
}

/** Runs statements on a database. */
export interface Runner {
  /** All of them in one transaction, or none. One alone needs no transaction. @returns a result for each */
  write(queries: readonly Query[]): Promise<readonly Result[]>
  /** Reads that see one moment. @returns a result for each */
  read(queries: readonly Query[]): Promise<readonly Result[]>
}

export function query(statement: StatementName, parameters: SqlParameters = {}): Query {
  return { statement, parameters }
}
