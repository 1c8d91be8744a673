import type { SqlParameters, SqlValue } from './dialect.ts'
import type { StatementName } from './statements.ts'

export type Row = Readonly<Record<string, SqlValue>>

/** What a statement gave. */
export interface Result {
  rows: readonly Row[]
  /** Rows written. */
  changes: number
}

export interface Query {
  statement: StatementName
  parameters: SqlParameters
}

/**
 * Several statements that belong together, written once for all databases: each `yield` asks for one, and gets its
 * result. SQLite's drivers answer at once, so that nothing comes between two of them; the others answer with a promise.
 */
export type Work<T> = Generator<Query, T, Result>

export function* all(statement: StatementName, parameters: SqlParameters): Work<readonly Row[]> {
  return (yield { statement, parameters }).rows
}

export function* first(statement: StatementName, parameters: SqlParameters): Work<Row | undefined> {
  return (yield { statement, parameters }).rows[0]
}

/** @returns how many rows were written */
export function* run(statement: StatementName, parameters: SqlParameters): Work<number> {
  return (yield { statement, parameters }).changes
}
