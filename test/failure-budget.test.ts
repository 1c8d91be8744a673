import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { FailureLimits } from 'totp-kit'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, type SqliteStatement, sqliteStore } from 'totp-kit/store/sqlite'
import { afterAll, beforeAll, describe, test } from 'vitest'
import {
  blockOf,
  type FailureCount,
  failureSql,
  inPeriodOf,
  limitParameters,
  withFailure,
  withSuccess,
} from '../src/store/failure-budget.ts'
import type { Row } from '../src/store/sql/batch.ts'
import { compile, type Dialect, type SqlParameters, type SqlValue, type Statement } from '../src/store/sql/dialect.ts'
import { toFailureCount } from '../src/store/sql/sql-store.ts'
import { type StatementName, statementsFor } from '../src/store/sql/statements.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import { DAY, enroll, firstStep, periodStart } from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

/** One attempt after the other, and how it ended; `counted`: right, and an earlier settlement counted it as a failure. */
interface History {
  limits: FailureLimits
  attempts: readonly { code: 'wrong' | 'right' | 'replayed' | 'counted'; at: number }[]
}

/** Small limits, which short histories reach, and the least and the greatest that a policy may have. */
const limitsOf = (of: { small: number; greatest: number }) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 1, max: of.small }) },
    { weight: 1, arbitrary: fc.constant(of.greatest) },
  )

const limits: fc.Arbitrary<FailureLimits> = fc.record({
  delayAfter: limitsOf({ small: 4, greatest: 100 }),
  firstDelaySeconds: limitsOf({ small: 60, greatest: 3600 }),
  maxDelaySeconds: limitsOf({ small: 300, greatest: 86_400 }),
  lockAfter: limitsOf({ small: 5, greatest: 1000 }),
  maxPerPeriod: limitsOf({ small: 5, greatest: 100_000 }),
  periodDays: limitsOf({ small: 3, greatest: 365 }),
})

/** From one attempt to the next: within a delay, after one, on the other side of a period's end, and a clock set back. */
const wait = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 90 }) },
  { weight: 2, arbitrary: fc.constantFrom(30, 60, 300, 3600) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 8 }).map((halves) => (halves * DAY) / 2) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 400 }).map((days) => days * DAY) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 6 }).map((halves) => (-halves * DAY) / 2) },
)

const code = fc.constantFrom('wrong', 'wrong', 'wrong', 'wrong', 'right', 'replayed', 'counted')

const history: fc.Arbitrary<History> = fc
  .tuple(limits, fc.array(fc.tuple(code, wait), { minLength: 1, maxLength: 6, size: 'max' }))
  .map(([chosen, drawn]) => {
    let at = periodStart
    const attempts = drawn.map(([code, seconds]) => {
      at += seconds
      return { code, at }
    })
    return { limits: chosen, attempts }
  })

/** The rule as `failure-budget.ts` has it in TypeScript. */
function countAfter(count: FailureCount | undefined, { code, at }: History['attempts'][number], limits: FailureLimits) {
  const moved = inPeriodOf(count, at, limits)
  const isAdmitted = code === 'counted' || blockOf(moved, at, limits) === null
  if (!isAdmitted || code === 'replayed') return { count, isSettled: false }
  const settled = code === 'wrong' ? withFailure(moved, at, limits) : withSuccess(moved, code === 'counted')
  return { count: settled, isSettled: true }
}

const forEach = <T>(give: (dialect: Dialect) => T): Record<Dialect, T> => ({
  sqlite: give('sqlite'),
  postgres: give('postgres'),
  mysql: give('mysql'),
})
const statements = forEach((dialect) => statementsFor(dialect, tablesOf()))
/** The count of failures, as the rule in SQL moves it to the current period. */
const reading = forEach((dialect) =>
  compile(
    dialect,
    'reading',
    `SELECT f.attempt_id, ${failureSql(dialect).columns} FROM totp_failure AS f WHERE f.user_id = :userId`,
  ),
)

/** A database with the library's tables, on one connection. */
interface Database {
  ask(statement: Statement, parameters: SqlParameters): Promise<readonly Row[]> | readonly Row[]
  /** Between two histories. */
  clear(): Promise<unknown> | unknown
  close(): Promise<unknown> | unknown
}

/** Ann has an authenticator on which step `firstStep` is spent and the next one is not. */
const ann = { userId: 'ann', phone: 'phone' }

const databases: {
  name: string
  dialect: Dialect
  isThere: boolean
  histories: number
  settling: readonly StatementName[]
  connect(): Promise<Database>
}[] = [
  {
    name: 'SQLite',
    dialect: 'sqlite',
    isThere: true,
    histories: 100_000,
    settling: ['settleStep'],
    async connect() {
      const connection = await openSqlite(':memory:')
      await enroll(await sqliteStore(connection), ann)
      const clear = connection.prepare('DELETE FROM totp_failure')
      const prepared = new Map<string, SqliteStatement>()
      connection.exec('BEGIN')
      return {
        ask({ text, parameters }, given) {
          const statement = prepared.get(text) ?? connection.prepare(text)
          prepared.set(text, statement)
          const own: Record<string, SqlValue> = {}
          for (const parameter of parameters) own[parameter] = given[parameter] ?? null
          if (text.startsWith('SELECT')) return statement.all(own) as Row[]
          statement.run(own)
          return []
        },
        clear: () => clear.run({}),
        close: () => connection.close(),
      }
    },
  },
  {
    name: 'PostgreSQL',
    dialect: 'postgres',
    isThere: services.postgres,
    histories: 1000,
    settling: ['settleStep', 'settleStepWhole'],
    async connect() {
      const { pool, drop } = await postgresPool(1)
      const store = postgresStore(pool)
      await store.migrate()
      await enroll(store, ann)
      return {
        async ask({ name, text, parameters }, given) {
          const values = parameters.map((parameter) => given[parameter] ?? null)
          return (await pool.query({ name, text, values })).rows
        },
        async clear() {
          await pool.query('DELETE FROM totp_failure')
          // What the whole settlement has spent.
          await pool.query(`UPDATE totp_authenticator SET last_step = ${firstStep}`)
        },
        close: drop,
      }
    },
  },
  {
    name: 'MariaDB',
    dialect: 'mysql',
    isThere: services.mysql,
    histories: 1000,
    settling: ['settleStep'],
    async connect() {
      const { pool, drop } = await mysqlPool(1)
      const store = mysqlStore(pool)
      await store.migrate()
      await enroll(store, ann)
      return {
        async ask({ text, parameters }, given) {
          const [rows] = await pool.execute(text, parameters.map((parameter) => given[parameter] ?? null) as never[])
          return Array.isArray(rows) ? (rows as Row[]) : []
        },
        clear: () => pool.query('DELETE FROM totp_failure'),
        close: drop,
      }
    },
  },
]

for (const { name, dialect, isThere, histories, settling, connect } of databases) {
  describe.skipIf(!isThere)(`the failure budget in ${name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await connect()
    })
    afterAll(() => database.close())

    test.each(settling)(
      `counts as the rule in TypeScript does, over ${histories} random histories, by %s`,
      async (settle) => {
        await fc.assert(
          fc.asyncProperty(history, (one) => agrees(database, dialect, settle, one)),
          { numRuns: histories },
        )
      },
      120_000,
    )
  })
}

/** Makes the attempts of a history, and compares the counts after each. */
async function agrees(
  { ask, clear }: Database,
  dialect: Dialect,
  settle: StatementName,
  { limits, attempts }: History,
): Promise<void> {
  await clear()
  let count: FailureCount | undefined
  let spent = firstStep
  for (const [n, attempt] of attempts.entries()) {
    const { code, at } = attempt
    const parameters = {
      userId: 'ann',
      method: 'totp',
      generation: 1,
      now: at,
      tokenId: null,
      attemptId: `attempt ${n}`,
      authenticatorId: code === 'wrong' ? null : 'phone, 0',
      step: code === 'replayed' ? spent : spent + 1,
      driftSteps: 0,
      isCounted: code === 'counted' ? 1 : 0,
      ...limitParameters(at, limits),
    }

    await ask(statements[dialect][settle], parameters)
    const [row] = await ask(reading[dialect], parameters)

    const after = countAfter(count, attempt, limits)
    count = after.count
    // Only the statement that settles the whole attempt spends a step.
    if (settle === 'settleStepWhole' && after.isSettled && code !== 'wrong') spent++
    assert.deepEqual(toFailureCount(row, at, limits), inPeriodOf(count, at, limits), `after attempt ${n + 1}`)
    assert.equal(String(row?.attempt_id) === parameters.attemptId, after.isSettled, `attempt ${n + 1}`)
  }
}
