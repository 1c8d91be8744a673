import assert from 'node:assert/strict'
import type { TotpStore } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { type StoreCase, storeCases } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { Dialect, SqlParameters, SqlValue } from '../src/store/sql/dialect.ts'
import { currentTables } from '../src/store/sql/migrations.ts'
import { type Runner, sqlStore } from '../src/store/sql/sql-store.ts'
import { type StatementName, statementsFor } from '../src/store/sql/statements.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import type { Query, Result, Work } from '../src/store/sql/work.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

/**
 * An operation as a careless author writes it: it looks, and when it likes what it saw, it writes, and answers by what it
 * saw. Called by one after the other it does the same as the real one. It is made of the statements that all databases
 * have; PostgreSQL's own, which do `spend`, `reserveAttempt` and `countCall` at one stroke, leave nothing to take apart.
 */
interface Mutant {
  promise: string
  operation: keyof ReturnType<typeof sqlStore>
  /** The statements whose results are those of the look; `in pieces`: none, but the statements share no transaction. */
  believes: readonly StatementName[] | 'in pieces'
  /** What a believed statement writes, whatever has come in between. */
  writes?: (sql: string, seen: Seen) => string
  /** The cases that a mutant must fail. */
  fails: readonly string[]
}

/** A value that a statement gave in the look. */
type Seen = (statement: StatementName, column: string) => SqlValue

/** A condition that holds whatever the row says; the placeholders in it stay. */
const always = (condition: RegExp) => (sql: string) => sql.replace(condition, '($& OR 1 = 1)')

const mutants: readonly Mutant[] = [
  {
    promise: 'a time step is spent once',
    operation: 'spend',
    believes: ['spendStep'],
    writes: always(/last_step < \S+/),
    fails: [
      'spend: exactly one of any number of callers gets `spent` for a time step',
      'spend: of different steps at once the latest is spent, and none up to it can be spent after',
    ],
  },
  {
    promise: 'a backup code is used once',
    operation: 'spend',
    believes: ['spendBackupCode'],
    writes: always(/used_at IS NULL/),
    fails: [
      'spend: exactly one of any number of callers gets `spent` for a backup code',
      'spend: different backup codes at once are all used, and stay used',
    ],
  },
  {
    promise: 'a challenge is burnt once, whatever the code',
    operation: 'spend',
    believes: ['consumeToken'],
    fails: [
      'spend: exactly one of any number of callers gets `spent` for a challenge, though each has a good code of its own',
    ],
  },
  {
    promise: 'no code is spent after a change of credentials',
    operation: 'spend',
    believes: ['lockUser'],
    fails: ['spend: none is spent once the credentials have changed'],
  },
  {
    promise: 'guesses are bounded',
    operation: 'reserveAttempt',
    believes: ['countAttempt', 'getFailures'],
    writes: always(/f\.consecutive < .*$/),
    fails: [
      'reserveAttempt: of any number of attempts at once, no more are reserved than the limits allow',
      'reserveAttempt: of any number of first codes of an enrollment at once, no more are reserved than the limits allow',
      'reserveAttempt: when a delay is over, exactly one of any number of attempts at once is reserved',
      'reserveAttempt: of any number of attempts at once, no more are reserved than are left to `lockAfter`',
      'reserveAttempt: of any number of attempts at once, no more are reserved than are left of the total',
    ],
  },
  {
    promise: 'no enrollment begins after a change of credentials',
    operation: 'putPending',
    believes: ['lockUser'],
    fails: ['putPending: none is put once the credentials have changed'],
  },
  {
    promise: 'a pending authenticator goes live once',
    operation: 'activatePending',
    believes: ['lockUser', 'copyPendingToLive'],
    fails: ['activatePending: exactly one caller gets anything but `refused` for a pending authenticator'],
  },
  {
    promise: 'no authenticator goes live after a change of credentials',
    operation: 'activatePending',
    believes: ['lockUser', 'copyPendingToLive'],
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
    believes: ['lockUser'],
    fails: [
      'importAuthenticator: exactly one of any number at once under one generation is put',
      'importAuthenticator: none is put once the credentials have changed',
    ],
  },
  {
    promise: 'factors are removed once, and not after a change of credentials',
    operation: 'removeFactors',
    believes: ['lockUser'],
    fails: [
      'removeFactors: exactly one of any number of callers removes what is there',
      'removeFactors: nothing is removed once the credentials have changed',
    ],
  },
  {
    promise: 'factors are removed with a recovery link once',
    operation: 'removeFactors',
    believes: ['lockUser', 'consumeToken'],
    fails: [
      'removeFactors: exactly one of any number of callers removes factors with a `token`, and it dies with them',
    ],
  },
  {
    promise: 'the last authenticator stays',
    operation: 'removeAuthenticator',
    believes: ['lockUser', 'getLive'],
    fails: ['removeAuthenticator: exactly one of any number of callers removes one of two, and `last` is what is left'],
  },
  {
    promise: 'a token that is given up is burnt once',
    operation: 'consumeToken',
    believes: ['consumeToken'],
    fails: ['consumeToken: true for exactly one caller per `tokenId`'],
  },
  {
    promise: 'a trusted device is used once per token',
    operation: 'rotateTrustedDevice',
    believes: ['rotateDevice'],
    writes: always(/(?<=AND )token_digest = \S+/),
    fails: ['rotateTrustedDevice: exactly one of any number of callers rotates a token, and the copies end the device'],
  },
  {
    promise: 'no backup codes are stored after a change of credentials',
    operation: 'replaceBackupCodes',
    believes: ['lockUser'],
    fails: ['replaceBackupCodes: none are replaced once the credentials have changed'],
  },
  {
    promise: 'a backup code is good for nothing once it is replaced',
    operation: 'spend',
    believes: ['spendBackupCode'],
    fails: ['replaceBackupCodes: none of the old codes is spent once they are replaced, and the new ones stay unused'],
  },
  {
    promise: 'backup codes are replaced as a whole',
    operation: 'replaceBackupCodes',
    believes: 'in pieces',
    fails: ['replaceBackupCodes: of any number at once, one whole list is left'],
  },
  {
    promise: 'no change of credentials is lost',
    operation: 'raiseGeneration',
    believes: ['lockUser', 'raiseGeneration'],
    writes: (sql, seen) => sql.replace('generation + 1', String(Number(seen('lockUser', 'generation')) + 1)),
    fails: ['raiseGeneration: each of any number at once counts'],
  },
  {
    promise: 'a refresh token is rotated once',
    operation: 'rotateFamily',
    believes: ['rotateFamily'],
    writes: always(/(?<=AND )token_id = \S+/),
    fails: ['rotateFamily: exactly one caller gets `rotated` for a token, and the others have ended the family'],
  },
  {
    promise: 'many that start keep one canary',
    operation: 'keepKeyCheck',
    believes: ['keepKeyCheck', 'getKeyCheck'],
    fails: ['keepKeyCheck: of many that start on an empty store, all get the same'],
  },
  {
    promise: 'no call is lost',
    operation: 'countCall',
    believes: ['countCall', 'getCalls'],
    writes: (sql, seen) => sql.replace('calls + 1', String(seen('getCalls', 'calls'))),
    fails: ['countCall: no call is lost of any number at once'],
  },
]

/**
 * Operations that look at nothing before they write: no race can come in between. `keepTrustedDevice` looks at the
 * generation, which the device carries too: one that is kept too late is dead. `endTrustedDevice`, `raiseFamily`,
 * `returnAttempt` and `noteBackupCodesSaved` are one statement each; `renameAuthenticator` reads after it has written.
 */
const WITHOUT_LOOK = [
  'openFamily',
  'endFamily',
  'raiseFamily',
  'keepTrustedDevice',
  'endTrustedDevice',
  'endTrustedDevices',
  'returnAttempt',
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
  const writing = Object.keys(memoryStore()).filter((name) => !/^(get|list|is)[A-Z]/.test(name))

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

/** The cases in which two calls are in the store at the same time. */
const racing = new Set<StoreCase>()
beforeAll(async () => {
  for (const one of storeCases) {
    let inside = 0
    const store = around(memoryStore(), (_, call) => {
      if (++inside > 1) racing.add(one)
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
        const isCaught = (error: unknown) => error instanceof assert.AssertionError || mutant.believes === 'in pieces'
        await assert.rejects(runOn(caseOf(failing), mutant), isCaught)
      })

      test('but not where its calls come one after the other', async () => {
        const own = storeCases.filter((one) => one.name.startsWith(`${mutant.operation}: `))
        const unraced = own.filter((one) => !racing.has(one))
        assert.ok(unraced.length > 0)
        for (const one of unraced) await runOn(one, mutant)
      })

      if (mutant.believes === 'in pieces') return
      test('but not where it believes nothing that it saw', async () => {
        const { writes: _, ...rest } = mutant
        for (const failing of mutant.fails) await runOn(caseOf(failing), { ...rest, believes: [] })
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
  const runner = mutant.believes === 'in pieces' ? inPieces(database, crowd) : looking(database, mutant, crowd)
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

/** Runs an operation once, undoes it, and runs it again with some of the results of the first run. */
function looking(database: Database, { believes, writes }: Mutant, crowd: Crowd): Runner {
  const ask = asking(database)
  const write: Runner['write'] = async (work, keep) => {
    const looked: { statement: StatementName; result: Result }[] = []
    const look = async (step: Query) => {
      const result = await ask(step)
      looked.push({ statement: step.statement, result })
      return result
    }
    const answer = await crowd.inTurn(() => transaction(database, () => perform(work(), look), never))
    if (!keep(answer)) return answer

    await crowd.everybodyHasLooked()

    const believed = looked.filter(({ statement }) => believes.includes(statement))
    const seen: Seen = (statement, column) =>
      looked.findLast((one) => one.statement === statement)?.result.rows[0]?.[column] ?? null
    const act = async (step: Query) => {
      const index = believed.findIndex(({ statement }) => statement === step.statement)
      const [before] = index === -1 ? [] : believed.splice(index, 1)
      if (before === undefined) return ask(step)
      if (before.result.changes > 0) await ask(step, writes && ((sql) => writes(sql, seen)))
      return before.result
    }
    return crowd.inTurn(() => transaction(database, () => perform(work(), act), keep))
  }
  return { write, read: (work) => write(work, never), single: (work) => write(work, never) }
}

const never = () => false

/** Runs each statement by itself, so that any other may come in between. */
function inPieces(database: Database, crowd: Crowd): Runner {
  const ask = asking(database)
  const run = <T>(work: () => Work<T>) => perform(work(), (step) => crowd.inTurn(() => ask(step)))
  return { write: run, read: run, single: run }
}

function asking({ dialect, query }: Database) {
  const statements = statementsFor(dialect, tablesOf())
  return ({ statement, parameters }: Query, rewrite?: (sql: string) => string): Promise<Result> => {
    const { text, parameters: names } = statements[statement]
    const asked = rewrite ? rewrite(text) : text
    if (rewrite && asked === text) throw new Error(`${statement} has another wording by now`)
    return query(asked, names, parameters)
  }
}

async function perform<T>(work: Work<T>, ask: (step: Query) => Promise<Result>): Promise<T> {
  let next = work.next()
  while (!next.done) next = work.next(await ask(next.value))
  return next.value
}

async function transaction<T>({ execute }: Database, work: () => Promise<T>, keep: (result: T) => boolean): Promise<T> {
  await execute('BEGIN')
  try {
    const result = await work()
    await execute(keep(result) ? 'COMMIT' : 'ROLLBACK')
    return result
  } catch (error) {
    await execute('ROLLBACK')
    throw error
  }
}
