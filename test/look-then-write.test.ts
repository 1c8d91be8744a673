import assert from 'node:assert/strict'
import type { TotpStore } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { type StoreCase, storeCases } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { Query, Result, Runner } from '../src/store/sql/batch.ts'
import type { Dialect, SqlParameters, SqlValue } from '../src/store/sql/dialect.ts'
import { currentTables } from '../src/store/sql/migrations.ts'
import { sqlStore } from '../src/store/sql/sql-store.ts'
import { type StatementName, statementsFor } from '../src/store/sql/statements.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

/**
 * An operation as a careless author writes it: it looks, and when it likes what it saw, it writes, and answers by what it
 * saw. Called by one after the other it does the same as the real one. It is made of the statements that all databases
 * have; PostgreSQL's own, which do `settleAttempt` and `countCall` at one stroke, leave nothing to take apart.
 */
interface Mutant {
  promise: string
  operation: keyof ReturnType<typeof sqlStore>
  /**
   * The statements whose results are those of the look, and what such a one writes, whatever has come in between; null: what
   * it always writes. `in pieces`: none, but the statements share no transaction; `without marks`: nor do they ask,
   * once the change has claimed the user, whether another one has.
   */
  believes:
    | Partial<Record<StatementName, ((sql: string, seen: Seen) => string) | null>>
    | 'in pieces'
    | 'in pieces, without marks'
  /** The cases that a mutant must fail. */
  fails: readonly string[]
}

/** A value that a statement gave in the look. */
type Seen = (statement: StatementName, column: string) => SqlValue

/** What a statement writes in the place of `found`, of which `$&` is the text: placeholders stay. */
const writing =
  (...replacements: [found: RegExp, by: string][]) =>
  (sql: string) =>
    replacements.reduce((text, [found, by]) => {
      if (text.search(found) === -1) throw new Error(`there is no ${found} any more in ${text}`)
      return text.replace(found, by)
    }, sql)

/** Conditions that hold whatever the rows say. */
const always = (...conditions: RegExp[]) =>
  writing(...conditions.map((condition): [RegExp, string] => [condition, '($& OR 1 = 1)']))

/** Where the look has found the code right. */
const whenRight = (write: (sql: string) => string) => (sql: string, seen: Seen) =>
  Number(seen('getSettled', 'consecutive')) === 0 ? write(sql) : sql

/** The generation is the one that the caller knows. */
const isCurrent = /g\.generation = [^\s)]+/g
/** The token is not consumed. */
const isUnused = /NOT EXISTS \(SELECT 1 FROM \S+ AS b WHERE b\.token_id = [^\s)]+\)/g
/** All that a change asks of the user whom it claims. */
const isClaimable = /(?<= AND )generation = .*$/
/** The budget is open. */
const isOpen = /\S+\.consecutive < \S+ AND \S+\.blocked_until <= \S+ AND .*? < [^\s)]+(?=\) OR )/
const isStepUnspent = /(a\.)?last_step < [^\s)]+/g
const isCodeUnused = /(c\.)?used_at IS NULL/g

const mutants: readonly Mutant[] = [
  {
    promise: 'a time step is spent once',
    operation: 'settleAttempt',
    believes: { settleStep: whenRight(always(isStepUnspent)), spendStep: always(isStepUnspent) },
    fails: [
      'settleAttempt: exactly one of any number of callers gets `spent` for a time step',
      'settleAttempt: of different steps at once the latest is spent, and none up to it can be spent after',
    ],
  },
  {
    promise: 'a backup code is used once',
    operation: 'settleAttempt',
    believes: { settleBackupCode: whenRight(always(isCodeUnused)), spendBackupCode: always(isCodeUnused) },
    fails: [
      'settleAttempt: exactly one of any number of callers gets `spent` for a backup code',
      'settleAttempt: different backup codes at once are all used, and stay used',
    ],
  },
  {
    promise: 'a challenge is burnt once, whatever the code',
    operation: 'settleAttempt',
    believes: { settleStep: always(isUnused), settleBackupCode: always(isUnused) },
    fails: [
      'settleAttempt: exactly one of any number of callers gets `spent` for a challenge, though each has a good code of its own',
    ],
  },
  {
    promise: 'no code is spent after a change of credentials',
    operation: 'settleAttempt',
    believes: { settleStep: always(isCurrent), settleBackupCode: always(isCurrent) },
    fails: ['settleAttempt: none is spent once the credentials have changed'],
  },
  {
    promise: 'guesses are bounded',
    operation: 'settleAttempt',
    believes: { settleStep: always(isOpen) },
    fails: [
      'settleAttempt: of any number of attempts at once, no more are admitted than the limits allow',
      'settleAttempt: of any number of first codes of an enrollment at once, no more are admitted than the limits allow',
      'settleAttempt: when a delay is over, exactly one of any number of attempts at once is admitted',
      'settleAttempt: of any number of attempts at once, no more are admitted than are left to `lockAfter`',
      'settleAttempt: of any number of attempts at once, no more are admitted than are left of the total',
    ],
  },
  {
    promise: 'guesses at a password of a recovery are bounded',
    operation: 'settleAttempt',
    believes: { settlePassword: always(isOpen) },
    fails: [
      'settleAttempt: of any number of passwords of a recovery at once, no more are admitted than the limits allow',
    ],
  },
  {
    promise: 'no enrollment begins after a change of credentials',
    operation: 'putPending',
    believes: { claimUser: always(isClaimable) },
    fails: ['putPending: none is put once the credentials have changed'],
  },
  {
    promise: 'a pending authenticator goes live once',
    operation: 'activatePending',
    believes: { settlePending: always(isCurrent, /EXISTS \(SELECT 1 FROM \S+ AS p WHERE [^()]*\)/) },
    fails: ['activatePending: exactly one caller gets anything but `refused` for a pending authenticator'],
  },
  {
    promise: 'no authenticator goes live after a change of credentials',
    operation: 'activatePending',
    believes: { settlePending: always(isCurrent, /EXISTS \(SELECT 1 FROM \S+ AS p WHERE [^()]*\)/) },
    fails: ['activatePending: none goes live once the credentials have changed'],
  },
  {
    promise: 'there is no moment without a working factor',
    operation: 'activatePending',
    believes: 'in pieces',
    fails: ['activatePending: there is no moment without a working factor'],
  },
  {
    promise: 'of several imports at once one is put, and none after a change of credentials',
    operation: 'importAuthenticator',
    believes: { claimUserWithRoom: always(isClaimable) },
    fails: [
      'importAuthenticator: exactly one of any number at once under one generation is put',
      'importAuthenticator: none is put once the credentials have changed',
    ],
  },
  {
    promise: 'factors are removed once, and not after a change of credentials',
    operation: 'removeFactors',
    believes: { claimUserByToken: always(isClaimable) },
    fails: [
      'removeFactors: exactly one of any number of callers removes what is there',
      'removeFactors: nothing is removed once the credentials have changed',
    ],
  },
  {
    promise: 'factors are removed with a recovery link once',
    operation: 'removeFactors',
    believes: { settlePassword: always(isCurrent, isUnused), claimUserByToken: always(isClaimable) },
    fails: [
      'removeFactors: exactly one of any number of callers removes factors with a `token`, and it dies with them',
    ],
  },
  {
    promise: 'the last authenticator stays',
    operation: 'removeAuthenticator',
    believes: { claimUserOfSeveral: always(isClaimable) },
    fails: ['removeAuthenticator: exactly one of any number of callers removes one of two, and `last` is what is left'],
  },
  {
    promise: 'a token that is given up is burnt once',
    operation: 'consumeToken',
    believes: { consumeToken: null },
    fails: ['consumeToken: true for exactly one caller per `tokenId`'],
  },
  {
    promise: 'a trusted device is used once per token',
    operation: 'rotateTrustedDevice',
    believes: { rotateDevice: always(/(?<=AND )token_digest = \S+/) },
    fails: ['rotateTrustedDevice: exactly one of any number of callers rotates a token, and the copies end the device'],
  },
  {
    promise: 'no backup codes are stored after a change of credentials',
    operation: 'replaceBackupCodes',
    believes: { claimUserWithFactor: always(isClaimable) },
    fails: ['replaceBackupCodes: none are replaced once the credentials have changed'],
  },
  {
    promise: 'a backup code is good for nothing once it is replaced',
    operation: 'settleAttempt',
    believes: {
      settleBackupCode: whenRight(
        writing([/WHEN (?=EXISTS \()/, 'WHEN 1 = 1 OR '], [/WHEN (?=NOT EXISTS \()/, 'WHEN 1 = 0 AND ']),
      ),
    },
    fails: ['replaceBackupCodes: none of the old codes is spent once they are replaced, and the new ones stay unused'],
  },
  {
    promise: 'backup codes are replaced as a whole',
    operation: 'replaceBackupCodes',
    believes: 'in pieces, without marks',
    fails: ['replaceBackupCodes: of any number at once, one whole list is left'],
  },
  {
    promise: 'no change of credentials is lost',
    operation: 'raiseGeneration',
    believes: {
      raiseGeneration: (sql, seen) =>
        writing([/generation \+ 1/, String(Number(seen('lockUser', 'generation')) + 1)])(sql),
    },
    fails: ['raiseGeneration: each of any number at once counts'],
  },
  {
    promise: 'a refresh token is rotated once',
    operation: 'rotateFamily',
    believes: { rotateFamily: always(/(?<=AND )token_id = \S+/) },
    fails: ['rotateFamily: exactly one caller gets `rotated` for a token, and the others have ended the family'],
  },
  {
    promise: 'many that start keep one canary',
    operation: 'keepKeyCheck',
    believes: { keepKeyCheck: null, getKeyCheck: null },
    fails: ['keepKeyCheck: of many that start on an empty store, all get the same'],
  },
  {
    promise: 'no call is lost',
    operation: 'countCall',
    believes: {
      countCall: (sql, seen) => writing([/(c\.)?calls \+ 1/, String(seen('getCalls', 'calls'))])(sql),
      getCalls: null,
    },
    fails: ['countCall: no call is lost of any number at once'],
  },
]

/**
 * Operations that look at nothing before they write: no race can come in between. `keepTrustedDevice` looks at the
 * generation, which the device carries too: one that is kept too late is dead. `endTrustedDevice`, `raiseFamily` and
 * `noteBackupCodesSaved` are one statement each; `renameAuthenticator` reads after it has written.
 */
const WITHOUT_LOOK = [
  'openFamily',
  'endFamily',
  'raiseFamily',
  'keepTrustedDevice',
  'endTrustedDevice',
  'endTrustedDevices',
  'noteBackupCodesSaved',
  'renameAuthenticator',
  'noteResyncStep',
  'clearFailures',
  'deleteExpired',
  'forgetUser',
  'migrate',
  'close',
]

test('every operation that may look before it writes has a mutant', () => {
  const writing = Object.keys(memoryStore()).filter((name) => !/^(get|list|is|read)[A-Z]/.test(name))

  const mutated = mutants.map(({ operation }): string => operation)
  assert.deepEqual([...new Set([...mutated, ...WITHOUT_LOOK])].sort(), writing.sort())
})

/** One connection to a database, which does one thing at a time. */
interface Database {
  dialect: Dialect
  store: TotpStore
  execute(sql: string): Promise<unknown>
  query(sql: string, names: readonly string[], parameters: SqlParameters): Promise<Result>
  close(): Promise<unknown>
}

const valuesOf = (names: readonly string[], given: SqlParameters) => names.map((name) => given[name] ?? null)

const databases: { name: string; isThere: boolean; connect: () => Promise<Database> }[] = [
  {
    name: 'SQLite',
    isThere: true,
    async connect() {
      const connection = await openSqlite(':memory:')
      return {
        dialect: 'sqlite',
        store: await sqliteStore(connection),
        execute: async (sql) => connection.exec(sql),
        async query(sql, names, given) {
          const statement = connection.prepare(sql)
          const own = Object.fromEntries(names.map((name) => [name, (given[name] ?? null) as SqlValue]))
          if (sql.startsWith('SELECT')) return { rows: statement.all(own) as Result['rows'], changes: 0 }
          return { rows: [], changes: Number(statement.run(own).changes) }
        },
        close: async () => connection.close(),
      }
    },
  },
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async connect() {
      const { pool, drop } = await postgresPool(1)
      return {
        dialect: 'postgres',
        store: postgresStore(pool),
        execute: (sql) => pool.query(sql),
        async query(sql, names, given) {
          const { command, rows, rowCount } = await pool.query(sql, valuesOf(names, given))
          return { rows, changes: command === 'SELECT' ? 0 : (rowCount ?? 0) }
        },
        close: drop,
      }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async connect() {
      const { pool, drop } = await mysqlPool(1)
      return {
        dialect: 'mysql',
        store: mysqlStore(pool),
        execute: (sql) => pool.query(sql),
        async query(sql, names, given) {
          const [result] = await pool.execute(sql, valuesOf(names, given) as never[])
          if (Array.isArray(result)) return { rows: result as Result['rows'], changes: 0 }
          return { rows: [], changes: result.affectedRows }
        },
        close: drop,
      }
    },
  },
]

/** The cases in which two calls are in the store at the same time, and how many calls each case makes. */
const racing = new Set<StoreCase>()
const callsOf = new Map<StoreCase, number>()
beforeAll(async () => {
  for (const one of storeCases) {
    let inside = 0
    const store = around(memoryStore(), async (_, call) => {
      if (++inside > 1) racing.add(one)
      callsOf.set(one, (callsOf.get(one) ?? 0) + 1)
      // In memory a call takes no time at all.
      await new Promise((resolve) => setImmediate(resolve))
      return call().finally(() => inside--)
    })
    await one.run(async () => store)
  }
})

for (const { name, isThere, connect } of databases) {
  describe.skipIf(!isThere)(`on ${name}, look-then-write breaks`, () => {
    let database: Database
    beforeAll(async () => {
      database = await connect()
      await database.store.migrate()
    })
    afterAll(() => database.close())

    const runOn = async ({ run }: StoreCase, mutant: Mutant) => {
      for (const table of currentTables) await database.execute(`DELETE FROM ${tablesOf()[table.name]}`)
      const crowd = crowdAtTheDoor()
      const store = mutated(database, mutant, crowd)
      // A case that has failed may have calls under way, which must not meet the next one.
      await run(async () => store).finally(() => crowd.everybodyHasLeft())
    }

    describe.each(mutants)('"$promise"', (mutant) => {
      test.each(mutant.fails)('and is caught by `%s`', async (failing) => {
        const isCaught = (error: unknown) => error instanceof assert.AssertionError || isInPieces(mutant)
        await assert.rejects(runOn(caseOf(failing), mutant), isCaught)
      })

      test('but not where its calls come one after the other', async () => {
        const own = storeCases.filter((one) => one.name.startsWith(`${mutant.operation}: `))
        // Hundreds of calls show no more, and here each is made twice, with a wait for the others in between.
        const unraced = own.filter((one) => !racing.has(one) && (callsOf.get(one) ?? 0) <= 20)
        assert.ok(unraced.length > 0)
        for (const one of unraced) await runOn(one, mutant)
      })

      if (isInPieces(mutant)) return
      test('but not where it believes nothing that it saw', async () => {
        for (const failing of mutant.fails) await runOn(caseOf(failing), { ...mutant, believes: {} })
      })
    })
  })
}

function caseOf(name: string): StoreCase {
  const found = storeCases.find((one) => one.name === name)
  assert.ok(found, `there is no case ${name}`)
  return found
}

type Call = (...args: unknown[]) => Promise<unknown>

/** The store with each call handed to `visit` instead of being made. */
function around(store: TotpStore, visit: (name: string, call: () => Promise<unknown>, args: unknown[]) => unknown) {
  const operations = Object.entries(store) as [string, Call][]
  const visited = operations.map(([name, call]) => [
    name,
    async (...args: unknown[]) => visit(name, () => call(...args), args),
  ])
  return Object.fromEntries(visited) as TotpStore
}

/** The real store with one operation written carelessly. Everything happens in turn, in the worst order there is. */
function mutated(database: Database, mutant: Mutant, crowd: Crowd): TotpStore {
  const runner = isInPieces(mutant) ? inPieces(database, mutant, crowd) : looking(database, mutant, crowd)
  const careless = sqlStore(runner, tablesOf())[mutant.operation] as Call
  return around(database.store, (name, call, args) =>
    crowd.visit(() => (name === mutant.operation ? careless(...args) : crowd.inTurn(call))),
  )
}

interface Crowd {
  visit<T>(call: () => Promise<T>): Promise<T>
  /** Nothing else happens meanwhile. */
  inTurn<T>(work: () => Promise<T>): Promise<T>
  /** Waits until whoever is in the store waits here too, or has left. */
  everybodyHasLooked(): Promise<void>
  everybodyHasLeft(): Promise<void>
}

function crowdAtTheDoor(): Crowd {
  let inside = 0
  let last: Promise<unknown> = Promise.resolve()
  const waiting: (() => void)[] = []
  const goOn = () => {
    if (waiting.length === inside) for (const go of waiting.splice(0)) go()
  }
  // In a turn of its own: who has left the store may come back at once.
  const goOnWhenAllWait = () => setImmediate(goOn)
  return {
    async visit(call) {
      inside++
      try {
        return await call()
      } finally {
        inside--
        goOnWhenAllWait()
      }
    },
    inTurn(work) {
      const turn = last.then(work)
      last = turn.catch(() => undefined)
      return turn
    },
    everybodyHasLooked: () =>
      new Promise((resolve) => {
        waiting.push(resolve)
        goOnWhenAllWait()
      }),
    async everybodyHasLeft() {
      do await new Promise((resolve) => setImmediate(resolve))
      while (inside > 0)
    },
  }
}

/** Runs an operation's statements once, undoes them, and runs them again with some of the results of the first run. */
function looking(database: Database, { believes }: Mutant, crowd: Crowd): Runner {
  const ask = asking(database)
  const believed = typeof believes === 'string' ? {} : believes
  const inOrder = async (queries: readonly Query[], each: (query: Query, n: number) => Promise<Result>) => {
    const results: Result[] = []
    for (const [n, query] of queries.entries()) results.push(await each(query, n))
    return results
  }
  const look = (queries: readonly Query[]) =>
    crowd.inTurn(() => transaction(database, 'ROLLBACK', () => inOrder(queries, (query) => ask(query))))
  return {
    read: look,
    async write(queries) {
      const looked = await look(queries)
      const seen: Seen = (statement, column) =>
        looked[queries.findIndex((query) => query.statement === statement)]?.rows[0]?.[column] ?? null
      // MySQL says of a row that was left as it is that it was written.
      const isLiked = ({ statement, parameters }: Query, { changes }: Result) =>
        statement.startsWith('settle') ? String(seen('getSettled', 'attempt_id')) === parameters.attemptId : changes > 0

      await crowd.everybodyHasLooked()

      const act = async (query: Query, n: number): Promise<Result> => {
        const writes = believed[query.statement]
        const before = looked[n]
        if (writes === undefined || before === undefined) return ask(query)
        if (isLiked(query, before)) await ask(query, writes && ((sql) => writes(sql, seen)))
        return before
      }
      return crowd.inTurn(() => transaction(database, 'COMMIT', () => inOrder(queries, act)))
    },
  }
}

const isInPieces = ({ believes }: Mutant) => typeof believes === 'string'

/** Runs each statement by itself, so that any other may come in between. */
function inPieces(database: Database, { believes }: Mutant, crowd: Crowd): Runner {
  const ask = asking(database)
  const unmarked = (sql: string) => sql.replace(/g\.change_id = [^\s)]+/g, '($& OR 1 = 1)')
  const run = async (queries: readonly Query[]) => {
    const results: Result[] = []
    for (const query of queries) {
      // Whoever waits for anything else goes first.
      await new Promise((resolve) => setImmediate(resolve))
      const hasClaimed = queries.some(({ statement }, n) => statement.startsWith('claim') && results[n]?.changes === 1)
      const rewrite = believes === 'in pieces, without marks' && hasClaimed ? unmarked : null
      results.push(await crowd.inTurn(() => ask(query, rewrite)))
    }
    return results
  }
  return { write: run, read: run }
}

function asking({ dialect, query }: Database) {
  const statements = statementsFor(dialect, tablesOf())
  return ({ statement, parameters }: Query, rewrite?: ((sql: string) => string) | null): Promise<Result> => {
    const { text, parameters: names } = statements[statement]
    return query(rewrite ? rewrite(text) : text, names, parameters)
  }
}

async function transaction<T>({ execute }: Database, end: 'COMMIT' | 'ROLLBACK', work: () => Promise<T>): Promise<T> {
  await execute('BEGIN')
  try {
    const result = await work()
    await execute(end)
    return result
  } catch (error) {
    await execute('ROLLBACK')
    throw error
  }
}
