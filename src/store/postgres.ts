import { checkOptions } from '../check-options.ts'
import { blockOf, budgetOf } from './failure-budget.ts'
import {
  isPostgresJs,
  type PostgresClient,
  type PostgresJs,
  type PostgresJsQueries,
  type PostgresResult,
  postgresJsClient,
  postgresJsSession,
} from './postgres-clients.ts'
import type { Result, Row } from './sql/batch.ts'
import type { SqlParameters, Statement } from './sql/dialect.ts'
import { hostTransaction, inTurn, takeTurn, type WithinOptions } from './sql/host-transaction.ts'
import { type ConnectionSource, migratePooled, pooledRunner, repeated, type Session } from './sql/pooled.ts'
import { countedOutside, isExpired, isTrue, parametersOf, sqlStore, toFailureCount, toWindow } from './sql/sql-store.ts'
import { type Statements, statementsFor } from './sql/statements.ts'
import { TABLE_OPTIONS, type TableOptions, tablesOf } from './sql/tables.ts'
import type { Settled, Settlement, TotpStore } from './store.ts'

export {
  type DrizzleTransaction,
  drizzleClient,
  type PostgresClient,
  type PostgresJs,
  type PostgresJsQueries,
  type PostgresResult,
  type PrismaTransaction,
  prismaClient,
} from './postgres-clients.ts'

export type { TableOptions, WithinOptions }

/** A `Pool` of `pg`. */
export interface PostgresPool extends PostgresClient {
  /** Lends a connection. */
  connect(give: (error: Error | undefined, client: PostgresPoolClient | undefined) => void): void
  /** Connections that are open: tells a pool from a client. */
  readonly totalCount: number
}

/** A connection that a `Pool` of `pg` lends. */
export interface PostgresPoolClient extends PostgresClient {
  /** Gives the connection back; true: it is broken and closed. */
  release(broken?: boolean): void
  /** Listens for the loss of the connection. */
  on(event: 'error', listener: () => void): unknown
  /** Ends that. */
  removeListener(event: 'error', listener: () => void): unknown
}

/** A store in PostgreSQL, which can also work inside a transaction of yours. */
export interface PostgresStore extends TotpStore {
  /**
   * The same store within a transaction that the host has open on `client`, so that an enrollment commits with the
   * host's own rows or not at all. Failures are counted outside it, on the store's own connection: a roll-back of the
   * host's must not give guesses back (Vikunja, CVE-2026-35597).
   *
   * Nothing is sent after the host has ended its transaction or has given the client back, after the deadline, or after
   * an abort. A call that is refused by one of these has changed nothing. Calls at once take turns.
   *
   * @throws TypeError when `client` is the connection that the store has, and for a store over PGlite, which has one
   * @throws RangeError when `deadlineMs` is out of range
   */
  within(client: PostgresClient | PostgresJsQueries, options?: WithinOptions): TotpStore
}

/**
 * A store in PostgreSQL, for any number of processes. Uses the host's own pool and opens no second one; `close` leaves
 * it open. The tables are made by `migrate`, or by `totp-kit migrate`.
 *
 * @param database - a `Pool` or connected `Client` of `pg`, a `Sql` of `postgres`, or a PGlite database
 * @example
 * ```ts
 * import { Pool } from 'pg'
 * import { postgresStore } from 'totp-kit/store/postgres'
 *
 * const store = postgresStore(new Pool({ connectionString: process.env.DATABASE_URL }), { schema: 'auth' })
 * await store.migrate()
 * ```
 *
 * @throws TypeError for an unknown option, when prefix or schema is no plain name, or the `Sql` transforms names of columns
 */
export function postgresStore(
  database: PostgresPool | PostgresClient | PostgresJs,
  options: TableOptions = {},
): PostgresStore {
  checkOptions(options, TABLE_OPTIONS)
  const tables = tablesOf(options)
  const statements = statementsFor('postgres', tables)
  const pooled = isPostgresJs(database)
    ? postgresJsPool(database, statements)
    : 'totalCount' in database
      ? poolOf(database, statements)
      : oneConnection(database, statements)
  const runner = pooledRunner(pooled)
  const store: TotpStore = {
    ...sqlStore(runner, tables),
    ...settledAtOnce(pooled),
    ...singleStatements(pooled),
    migrate: () =>
      migratePooled(pooled, {
        dialect: 'postgres',
        tables,
        async lock(session) {
          await session.text(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`)
          if (options.schema !== undefined) await session.text(`CREATE SCHEMA IF NOT EXISTS ${options.schema}`)
        },
        isThere: () => false,
      }),
    async close() {},
  }
  return {
    ...store,
    within(connection, options) {
      const client = 'unsafe' in connection ? postgresJsClient(connection) : connection
      // PGlite has one connection: what counts failures would wait for the transaction that waits for it.
      if (connection === (database as unknown) || 'waitReady' in database)
        throw new TypeError('within requires a different connection from the one that the store uses')
      const inside = savepoints(client, statements, options)
      const insideRunner = pooledRunner(inside)
      return {
        ...sqlStore(insideRunner, tables),
        ...singleStatements(inside),
        ...countedOutside(runner, insideRunner, tables),
        getFailureBudget: store.getFailureBudget,
        countCall: store.countCall,
        migrate: store.migrate,
        close: store.close,
      }
    },
  }
}

/** {@link TotpStore.settleAttempt} in one round trip; the reason of a refusal takes a second one. */
function settledAtOnce(pooled: Pick<ConnectionSource, 'query'>): Pick<TotpStore, 'settleAttempt'> {
  const settleAttempt = async (settlement: Settlement): Promise<Settled> => {
    if (isExpired(settlement)) return { outcome: 'stale' }
    const { method, token, family, now, limits } = settlement
    const parameters = {
      ...parametersOf(settlement),
      tokenExpiresAt: token?.expiresAt ?? null,
      familyId: family?.id ?? null,
      familyTokenId: family?.tokenId ?? null,
      familyExpiresAt: family?.expiresAt ?? null,
    }
    const { rows } = await pooled.query(
      method === 'backup_code' ? 'settleBackupCodeWhole' : 'settleStepWhole',
      parameters,
    )
    const [row] = rows
    if (Number(row?.is_current) === 0) return { outcome: 'stale' }
    if (Number(row?.marked) === 1) {
      // The statement counts as of its beginning, when its own code was unused.
      const remaining = method === 'backup_code' ? Number(row?.remaining) - 1 : null
      return { outcome: 'spent', backupCodesRemaining: remaining }
    }
    if (row?.consecutive !== null) {
      // Another answer to the same challenge may have consumed the token since the statement's beginning.
      if (isTrue(row?.is_right)) return { outcome: 'stale' }
      return { outcome: 'wrong', budget: budgetOf(toFailureCount(row, now, limits), now, limits) }
    }
    const isRefused = isTrue(row?.is_right) || isTrue(row?.is_wrong)
    const [settled] = (await pooled.query('getSettled', parameters)).rows
    const count = toFailureCount(settled, now, limits)
    const block = blockOf(count, now, limits)
    // Room may have been made between the two statements: too late for this attempt, in time for the next.
    if (isRefused) return block ?? { outcome: 'delayed', retryAt: now + 1 }
    if (!isTrue(settled?.is_current) || !isTrue(settled?.is_unused)) return { outcome: 'stale' }
    if (block) return block
    // Another answer has used the code since the statement's beginning: by now it is a wrong one.
    if (method === 'backup_code') return settleAttempt(settlement)
    return { outcome: 'spent_before', budget: budgetOf(count, now, limits) }
  }
  return { settleAttempt }
}

/** What takes several statements elsewhere and one here. */
function singleStatements(
  pooled: Pick<ConnectionSource, 'query'>,
): Pick<TotpStore, 'openFamily' | 'rotateFamily' | 'countCall'> {
  return {
    async openFamily({ id, userId, tokenId, expiresAt }, generation, now) {
      await pooled.query('openFamilyWhole', { id, userId, tokenId, expiresAt, generation, now })
    },
    async rotateFamily(rotation) {
      if ((await pooled.query('rotateFamily', rotation)).changes === 1) return 'rotated'
      // Not yet dead: who waited for a change of the factors that keeps the family has compared with the row of before.
      // This statement sees the change, and ends what is dead.
      const { rows } = await pooled.query('rotateFamilyWhole', rotation)
      return Number((rows[0] as Row).rotated) === 1 ? 'rotated' : 'dead'
    },
    async countCall({ keyDigest, windowSeconds, now }) {
      const { rows } = await pooled.query('countCallWhole', { keyDigest, expiresAt: now + windowSeconds, now })
      return toWindow(rows[0])
    },
  }
}

/** A number of its own for the advisory lock under which the tables are made. */
const MIGRATION_LOCK = 8_726_238

/** Deadlock and serialization failure: PostgreSQL has undone the transaction. */
const UNDONE = new Set(['40001', '40P01'])
const isRetryable = (error: unknown) => UNDONE.has(String((error as { code?: unknown } | null)?.code))

/** A checked-out client has no error listener of the pool. Without one, a broken connection crashes the process. */
const toldToTheStatement = () => undefined

/**
 * A connection whose server has not answered a statement for so long is closed. Longer than the ten seconds after which a
 * flow answers `unavailable` (`flows/context.ts`). The machine of a primary that fails sends no word to its clients; TCP
 * alone would wait for a quarter of an hour, with every connection of the pool.
 */
const MAX_ANSWER_MS = 12_000

function poolOf(pool: PostgresPool, statements: Statements): ConnectionSource {
  const lend = (): Promise<Lent> =>
    new Promise((resolve, reject) => {
      // By callback, so that our listener is there when the pool's goes: a promise would come one microtask later, and
      // a message of the server that arrives together with the connection's readiness would find no listener.
      pool.connect((error, client) => {
        if (error || !client) return reject(error ?? new Error('the pool returned no connection'))
        let isLent = true
        client.on('error', toldToTheStatement)
        const release = (broken: boolean) => {
          if (!isLent) return
          isLent = false
          client.removeListener('error', toldToTheStatement)
          client.release(broken)
        }
        const bounded: PostgresClient = {
          async query(query, values) {
            const timer = setTimeout(() => release(true), MAX_ANSWER_MS)
            try {
              return await client.query(query, values)
            } finally {
              clearTimeout(timer)
            }
          },
        }
        resolve({ client, bounded, release })
      })
    })
  const once = async (statement: Statement, parameters: SqlParameters): Promise<Result> => {
    const { bounded, release } = await lend()
    let broken = true
    try {
      const result = await ask(bounded, statement, parameters)
      broken = false
      return result
    } finally {
      release(broken)
    }
  }
  return {
    async acquire() {
      const { client, bounded, release } = await lend()
      // Texts are a migration's, which may take as long as it likes.
      const { text } = sessionOn(client, statements)
      return { ...sessionOn(bounded, statements), text, release }
    },
    // Where the host's default is REPEATABLE READ or more, of two racing statements one is undone.
    query: (name, parameters) => repeated(isRetryable, () => once(statements[name], parameters)),
    isRetryable,
  }
}

/** A connection that the pool has lent. */
interface Lent {
  client: PostgresClient
  /** The same connection, closed where an answer does not come. */
  bounded: PostgresClient
  /** Once; again, it does nothing. */
  release(broken: boolean): void
}

function postgresJsPool(sql: PostgresJs, statements: Statements): ConnectionSource {
  const { options = {} } = sql as { options?: { prepare?: boolean; transform?: { column?: { from?: unknown } } } }
  if (options.transform?.column?.from) {
    throw new TypeError('the client of postgres must not transform column names: give the store a separate client')
  }
  // `prepare: false` is what a host says behind PgBouncer.
  const prepare = options.prepare ?? true
  const client = postgresJsClient(sql, prepare)
  return {
    acquire: async () =>
      postgresJsSession(sql, prepare, { sessionOn: (inside) => sessionOn(inside, statements), kinds: KINDS }),
    query: (name, parameters) => repeated(isRetryable, () => ask(client, statements[name], parameters)),
    isRetryable,
  }
}

/** One connection serves one after the other: what belongs to a transaction must not mix with what does not. */
function oneConnection(client: PostgresClient, statements: Statements): ConnectionSource {
  return {
    acquire: () => takeTurn(client, (release) => ({ ...sessionOn(client, statements), release: () => release() })),
    query: (name, parameters) =>
      repeated(isRetryable, () => inTurn(client, () => ask(client, statements[name], parameters))),
    isRetryable,
  }
}

/** Within a transaction of the host's: ours is a savepoint in it, and is never repeated. */
function savepoints(client: PostgresClient, statements: Statements, options?: WithinOptions): ConnectionSource {
  const session = sessionOn(client, statements)
  const transaction = hostTransaction(client, session.text, options)
  return {
    acquire: () => transaction.acquire(session),
    query: (name, parameters) => transaction.single(session, name, parameters),
    isRetryable: () => false,
  }
}

const KINDS = {
  read: 'ISOLATION LEVEL REPEATABLE READ READ ONLY',
  // Whatever the host's default: our statements look again at rows that they have waited for, and are safe so.
  write: 'ISOLATION LEVEL READ COMMITTED READ WRITE',
} as const

function sessionOn(client: PostgresClient, statements: Statements): Omit<Session, 'release'> {
  const text = (sql: string) => client.query(sql).then(toResult)
  return {
    text,
    query: (name, parameters) => ask(client, statements[name], parameters),
    begin: (kind) => text(`BEGIN ${KINDS[kind]}`).then(() => undefined),
    commit: () => text('COMMIT').then(() => undefined),
    rollback: () => text('ROLLBACK').then(() => undefined),
  }
}

/** Sends a statement that the server parses and plans once per connection; PGlite plans each time. */
async function ask(client: PostgresClient, statement: Statement, parameters: SqlParameters): Promise<Result> {
  const { name, text, parameters: names } = statement
  const values = names.map((parameter) => parameters[parameter] ?? null)
  if ('waitReady' in client) return toResult(await client.query(text, values))
  return toResult(await client.query({ name, text, values }))
}

function toResult({ rows, rowCount, affectedRows }: PostgresResult): Result {
  return { rows: rows as Row[], changes: rowCount ?? affectedRows ?? 0 }
}
