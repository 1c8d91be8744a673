import type { Parameters, SqlValue } from './dialect.ts'
import type { StatementName } from './statements.ts'

export type Row = Readonly<Record<string, SqlValue>>

/** What a statement gave. */
export interface Result {
  rows: readonly Row[]
  /** Rows written. */
  changes: number
}

export interface Step {
  statement: StatementName
  parameters: Parameters
}

/**
 * Several statements that belong together, written once for all databases: each `yield` asks for one, and gets its
 * result. SQLite's drivers answer at once, so that nothing comes between two of them; the others answer with a promise.
 */
export type Work<T> = Generator<Step, T, Result>

export function* all(statement: StatementName, parameters: Parameters): Work<readonly Row[]> {
  return (yield { statement, parameters }).rows
}

export function* first(statement: StatementName, parameters: Parameters): Work<Row | undefined> {
  return (yield { statement, parameters }).rows[0]
}

/** @returns how many rows were written */
export function* run(statement: StatementName, parameters: Parameters): Work<number> {
  return (yield { statement, parameters }).changes
}
