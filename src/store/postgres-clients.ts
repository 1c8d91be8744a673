import type { Session } from './sql/pooled.ts'

/** What the PostgreSQL store needs of a result; drivers count rows under one name or the other. */
export interface PostgresResult {
  /** The rows that were returned. */
  rows: unknown[]
  /** Rows that were changed or returned, as `pg` counts them. */
  rowCount?: number | null
  /** Rows that were changed, as PGlite counts them. */
  affectedRows?: number
}

/** One connection: a `Client` of `pg`, one that a `Pool` lent, a PGlite database, or a transaction made fit. */
export interface PostgresClient {
  /** A text, or a statement with a name, which the server keeps prepared; PGlite is given texts only. */
  query(query: string | { name: string; text: string; values: unknown[] }, values?: unknown[]): Promise<PostgresResult>
  /** True: no `COMMIT` is ever seen on it. Then `totp.within` refuses it, and `totp.transaction` is to be put around. */
  readonly endsUnseen?: boolean
}

/** A `Sql` of the package `postgres` (postgres.js). */
export interface PostgresJs extends PostgresJsQueries {
  /** Runs a transaction. */
  begin(options: string, work: (tx: PostgresJsQueries) => Promise<void>): Promise<unknown>
}

/** What can be asked of a `Sql`, and of a transaction that `begin` hands out. */
export interface PostgresJsQueries {
  /** Runs a statement with parameters. */
  // biome-ignore lint/suspicious/noExplicitAny: the package's own types are wider in one version and narrower in another.
  unsafe(text: string, values?: any[], options?: { prepare?: boolean }): PromiseLike<unknown[] & { count: number }>
}

export function isPostgresJs(database: object): database is PostgresJs {
  return typeof database === 'function' && 'unsafe' in database && 'begin' in database
}

/** A transaction of postgres.js (what `sql.begin` hands out) as a client; the same one for the same transaction. */
export function postgresJsClient(sql: PostgresJsQueries, prepare = true): PostgresClient {
  const known = postgresJsClients.get(sql)
  if (known) return known
  const client = unseen(async (text, values) => {
    const rows = await sql.unsafe(text, values, values.length > 0 ? { prepare } : {})
    return { rows: [...rows], rowCount: rows.count }
  })
  postgresJsClients.set(sql, client)
  return client
}

const postgresJsClients = new WeakMap<object, PostgresClient>()

/**
 * A transaction of Drizzle's on PostgreSQL as a client for `store.within`.
 *
 * @param tx - what `db.transaction` hands out
 * @param sql - of `drizzle-orm`
 */
export function drizzleClient(
  tx: DrizzleTransaction,
  // biome-ignore lint/suspicious/noExplicitAny: `sql` is a tag with members, whose types differ from version to version.
  sql: any,
): PostgresClient {
  return unseen(async (text, values) => {
    const chunks = text.split(/\$(\d+)/).map((part, index) =>
      // Every second part is the number of a placeholder.
      index % 2 === 1 ? sql`${values[Number(part) - 1]}` : sql.raw(part),
    )
    const result = await tx.execute(sql.join(chunks))
    if (Array.isArray(result)) return { rows: [...result], rowCount: (result as { count?: number }).count ?? 0 }
    return result as PostgresResult
  })
}

/** What is needed of a transaction of Drizzle's. */
export interface DrizzleTransaction {
  /** Runs an `SQL` of Drizzle. */
  // biome-ignore lint/suspicious/noExplicitAny: takes an `SQL` of Drizzle's, whose type we do not have.
  execute(query: any): PromiseLike<unknown>
}

/**
 * A transaction of Prisma's on PostgreSQL as a client for `store.within`.
 *
 * @param tx - what `prisma.$transaction(async (tx) => …)` hands out
 */
export function prismaClient(tx: PrismaTransaction): PostgresClient {
  return unseen(async (text, values) => {
    if (!/^\s*(?:SELECT|WITH)\b|\bRETURNING\b/i.test(text)) {
      return { rows: [], rowCount: await tx.$executeRawUnsafe(text, ...values) }
    }
    const rows = (await tx.$queryRawUnsafe(text, ...values)) as unknown[]
    return { rows, rowCount: rows.length }
  })
}

/** What is needed of a transaction of Prisma's. */
export interface PrismaTransaction {
  /** Runs a statement and returns its rows. */
  $queryRawUnsafe(text: string, ...values: unknown[]): PromiseLike<unknown>
  /** Runs a statement and returns how many rows it changed. */
  $executeRawUnsafe(text: string, ...values: unknown[]): PromiseLike<number>
}

function unseen(ask: (text: string, values: unknown[]) => Promise<PostgresResult>): PostgresClient {
  return {
    endsUnseen: true,
    query: (query, values = []) => {
      const given = typeof query === 'string' ? { text: query, values } : query
      return ask(given.text, given.values.map(arrayLiteral))
    },
  }
}

/** Lists as PostgreSQL writes them: an ORM would make a list of parameters of one. Ours hold digests and nothing else. */
function arrayLiteral(value: unknown): unknown {
  return Array.isArray(value) ? `{${value.map((item) => JSON.stringify(item)).join(',')}}` : value
}

/** What the host's part of a transaction rejects with when it is to be rolled back. */
const UNDO = new Error('rolled back')

/**
 * A transaction of ours by `sql.begin`.
 *
 * After the connection has broken nothing may be sent on it, a roll-back included: postgres.js would write to a socket that
 * is gone, outside of any promise, and end the process. So its part of the transaction then never ends; postgres.js has
 * given the connection up by itself.
 */
export function postgresJsSession(
  sql: PostgresJs,
  prepare: boolean,
  {
    sessionOn,
    kinds,
  }: {
    sessionOn: (client: PostgresClient) => Omit<Session, 'release'>
    kinds: Readonly<Record<'read' | 'write', string>>
  },
): Session {
  let inside: { client: PostgresClient; commit: () => void; undo: (reason: Error) => void } | null = null
  let ended: Promise<unknown> = Promise.resolve()
  let broken: unknown = null
  const checkAlive = () => {
    if (broken !== null || inside === null) throw broken ?? new Error('the transaction has not begun')
    return inside
  }
  const client: PostgresClient = {
    async query(query, values) {
      try {
        return await checkAlive().client.query(query, values)
      } catch (error) {
        // Anything but the server's answer to a statement ends the connection: FATAL and PANIC too.
        if ((error as { severity?: unknown }).severity !== 'ERROR') broken = error
        throw error
      }
    },
  }
  return {
    ...sessionOn(client),
    begin: (kind) =>
      new Promise((resolve, reject) => {
        ended = sql.begin(
          kinds[kind],
          (tx) =>
            new Promise<void>((commit, undo) => {
              inside = { client: postgresJsClient(tx, prepare), commit, undo }
              resolve()
            }),
        )
        ended.catch((error) => {
          if (error !== UNDO) broken ??= error
          reject(error)
        })
      }),
    async commit() {
      checkAlive().commit()
      await ended
    },
    async rollback() {
      checkAlive().undo(UNDO)
      await ended.catch((error) => {
        if (error !== UNDO) throw error
      })
    },
    release() {},
  }
}
