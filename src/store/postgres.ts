import { checkOptions } from '../check-options.ts'
import {
  isPostgresJs,
  type PostgresClient,
  type PostgresJs,
  type PostgresJsQueries,
  type PostgresResult,
  postgresJsClient,
  postgresJsSession,
} from './postgres-clients.ts'
import type { SqlParameters, Statement } from './sql/dialect.ts'
import { hostTransaction, inTurn, takeTurn, type WithinOptions } from './sql/host-transaction.ts'
import { type ConnectionSource, migratePooled, pooledRunner, repeated, type Session } from './sql/pooled.ts'
import { limitNumbers, type Runner, refusal, sqlStore, toAuthenticator, toUser } from './sql/sql-store.ts'
import { type Statements, statementsFor } from './sql/statements.ts'
import { TABLE_OPTIONS, type TableOptions, tablesOf } from './sql/tables.ts'
import type { Result, Row } from './sql/work.ts'
import type { Attempt, Reservation, Spending, Spent, TotpStore } from './store.ts'

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
   * host's own rows or not at all. Attempts are counted outside it, on the store's own connection: a roll-back of the
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
  const usual = sqlStore(runner, tables)
  const counted = {
    reserveAttempt: reserveIn(pooled, runner),
    returnAttempt: usual.returnAttempt,
    getFailureBudget: usual.getFailureBudget,
    countCall: countIn(pooled),
  }
  const store: TotpStore = {
    ...usual,
    ...counted,
    ...singleStatementOperations(pooled),
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
      // PGlite has one connection: what counts attempts would wait for the transaction that waits for it.
      if (connection === (database as unknown) || 'waitReady' in database)
        throw new TypeError('within requires a different connection from the one that the store uses')
      const inside = savepoints(client, statements, options)
      const own = pooledRunner(inside)
      return {
        ...sqlStore(own, tables),
        ...counted,
        ...singleStatementOperations(inside),
        migrate: store.migrate,
        close: store.close,
      }
    },
  }
}

/** Counts and hands out what to judge by in one round trip; the reason of a refusal costs a second one. */
function reserveIn(pooled: ConnectionSource, runner: Runner) {
  return async ({ userId, method, against, challenge, now, limits }: Attempt): Promise<Reservation> => {
    if (challenge && challenge.expiresAt < now) return { outcome: 'stale' }
    const { tokenId = null, generation = null } = challenge ?? {}
    const parameters = { userId, method, now, tokenId, generation, ...limitNumbers(now, limits) }
    const { rows } = await pooled.query(against === 'live' ? 'reserveLive' : 'reservePending', parameters)
    const row = rows[0] as Row
    if (!row.is_open) return { outcome: 'stale' }
    if (row.id === null) return { outcome: 'absent' }
    if (row.consecutive !== null) {
      const authenticators = rows.map(toAuthenticator)
      return { outcome: 'reserved', user: toUser(row), authenticators, consecutive: Number(row.consecutive) }
    }
    const refused = await runner.single(() => refusal({ userId, method, now, limits }))
    // The budget was given back between the two statements: too late for this attempt, in time for the next.
    return refused ?? { outcome: 'delayed', retryAt: now + 1 }
  }
}

async function spendIn(pooled: Pick<ConnectionSource, 'query'>, spending: Spending): Promise<Spent> {
  const { userId, method, challenge, generation, now } = spending
  if (challenge && (challenge.expiresAt < now || challenge.generation !== generation)) return { outcome: 'stale' }
  const { tokenId = null, expiresAt = null } = challenge ?? {}
  const common = { userId, method, generation, now, tokenId, expiresAt }
  const { rows } =
    spending.method === 'totp'
      ? await pooled.query('spendStepWhole', {
          ...common,
          authenticatorId: spending.authenticatorId,
          step: spending.step,
          driftSteps: spending.driftSteps,
        })
      : await pooled.query('spendBackupCodeWhole', { ...common, digests: spending.digests })
  const row = rows[0] as Row
  if (Number(row.current) === 0) return { outcome: 'stale' }
  if (Number(row.unspent) === 0) {
    // Of two answers to one challenge the later finds the step spent before it finds the challenge burnt.
    const burnt = tokenId !== null && (await pooled.query('isBurnt', { tokenId })).rows.length > 0
    return { outcome: burnt ? 'stale' : 'refused' }
  }
  if (Number(row.marked) === 0) return { outcome: 'stale' }
  // The statement counts as of its beginning, when its own code was unused.
  const own = method === 'backup_code' ? 1 : 0
  return { outcome: 'spent', backupCodesRemaining: Number(row.remaining) - own }
}

/** What takes a transaction elsewhere and one statement here. */
function singleStatementOperations(
  pooled: Pick<ConnectionSource, 'query'>,
): Pick<TotpStore, 'spend' | 'openFamily' | 'rotateFamily'> {
  return {
    spend: (spending) => spendIn(pooled, spending),
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
  }
}

function countIn(pooled: ConnectionSource): TotpStore['countCall'] {
  return async ({ keyDigest, windowSeconds, now }) => {
    const { rows } = await pooled.query('countCallWhole', { keyDigest, expiresAt: now + windowSeconds, now })
    const row = rows[0] as Row
    return { calls: Number(row.calls), endsAt: Number(row.expires_at) }
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
