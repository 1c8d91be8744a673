/**
 * The statements of totp-kit in the order in which its stores run them, written out for each database: to be changed when
 * `src/store/sql/sql-store.ts` or `src/store/postgres.ts` run others. A statement that asks for a parameter which is not
 * given here throws, so that a change does not go unnoticed.
 */
import mysql from 'mysql2/promise'
import pg from 'pg'
import { openSqlite } from '../databases.mjs'
import { statementsFor, tablesOf } from '../internals.mjs'

/** The defaults of `src/policy.ts`. */
const LIMITS = { delayAfter: 5, firstDelaySeconds: 30, maxDelaySeconds: 900, lockAfter: 100, maxPerPeriod: 300 }
const numbersAt = (now) => ({ ...LIMITS, period: Math.floor(now / (30 * 86_400)) })

export async function openLimitSql({ kind, url }) {
  if (kind === 'sqlite') return onSqlite(await openSqlite(url))
  if (kind === 'postgres') return onPostgres(new pg.Pool({ connectionString: url }))
  return onMysql(mysql.createPool(url))
}

const statementsOf = (dialect) => statementsFor(dialect, tablesOf({}))

function given(parameters, name) {
  const value = parameters[name]
  if (value === undefined) throw new Error(`a statement asks for ${name}: adapt limit-sql.mjs`)
  return value
}

function onSqlite(database) {
  const prepared = {}
  for (const [name, { text, parameters }] of Object.entries(statementsOf('sqlite'))) {
    prepared[name] = { statement: database.prepare(text), parameters }
  }
  const own = (names, parameters) => {
    const named = {}
    for (const name of names) named[name] = given(parameters, name)
    return named
  }
  const all = (name, parameters) => prepared[name].statement.all(own(prepared[name].parameters, parameters))
  const first = (name, parameters) => all(name, parameters)[0]
  const run = (name, parameters) =>
    Number(prepared[name].statement.run(own(prepared[name].parameters, parameters)).changes)
  const transaction = (begin, work) => {
    database.exec(begin)
    try {
      const result = work()
      database.exec('COMMIT')
      return result
    } catch (error) {
      database.exec('ROLLBACK')
      throw error
    }
  }
  return {
    reserve: (attempt) =>
      transaction('BEGIN IMMEDIATE', () => {
        const user = first('getUser', attempt)
        if (user.generation !== attempt.generation || first('isBurnt', attempt)) throw new Error('stale')
        const [authenticator] = all('getLive', attempt)
        const counted = { ...attempt, ...numbersAt(attempt.now) }
        if (run('countAttempt', counted) === 0) {
          if (first('getFailures', counted)) throw new Error('refused')
          run('ensureFailures', counted)
          run('countAttempt', counted)
        }
        return authenticator
      }),
    spend: (spending) =>
      transaction('BEGIN IMMEDIATE', () => {
        if (first('lockUser', spending).generation !== spending.generation) throw new Error('stale')
        must(run('consumeToken', spending))
        run('forgetTwoBurntTokens', spending)
        if (spending.method === 'totp') must(run('spendStep', { ...spending, driftSteps: 0 }))
        else must(run('spendBackupCode', spending))
        run('giveBackAttempt', spending)
        return first('countBackupCodes', spending).remaining
      }),
    openFamily: (family) =>
      transaction('BEGIN IMMEDIATE', () => {
        run('openFamily', family)
        run('forgetTwoFamilies', family)
      }),
    putPending(pending) {
      first('getUser', pending)
      transaction('BEGIN IMMEDIATE', () => {
        if (first('lockUser', pending) === undefined) {
          run('ensureUser', pending)
          first('lockUser', pending)
        }
        run('deletePending', pending)
        run('insertPending', pending)
      })
    },
    status: ({ userId, now }) =>
      transaction('BEGIN', () => ({
        failures: first('getFailures', { userId, method: 'totp', ...numbersAt(now) }),
        user: first('getUser', { userId }),
        authenticators: all('getLive', { userId }),
        remaining: Number(first('countBackupCodes', { userId }).remaining),
        pending: first('getPending', { userId, now }),
        devices: all('listDevices', { userId, now }),
      })),
  }
}

function onPostgres(pool) {
  const statements = statementsOf('postgres')
  const ask = async (on, name, parameters) => {
    const statement = statements[name]
    const values = statement.parameters.map((parameter) => given(parameters, parameter))
    return on.query({ name: statement.name, text: statement.text, values })
  }
  const one = async (on, name, parameters) => (await ask(on, name, parameters)).rows[0]
  const transaction = pooledTransaction(() => pool.connect(), {
    write: ['BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE'],
    read: ['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'],
  })
  return {
    async reserve(attempt) {
      const row = await one(pool, 'reserveLive', { ...attempt, ...numbersAt(attempt.now) })
      if (!row.is_reserved) throw new Error('refused')
      return row
    },
    async spend(spending) {
      const row =
        spending.method === 'totp'
          ? await one(pool, 'spendStepWhole', { ...spending, driftSteps: 0 })
          : await one(pool, 'spendBackupCodeWhole', { ...spending, digests: [spending.digest] })
      must(Number(row.marked))
      return Number(row.remaining)
    },
    ...pooledWorks(transaction, ask, one, (name, parameters) => one(pool, name, parameters)),
    openFamily: (family) => ask(pool, 'openFamilyWhole', family),
  }
}

function onMysql(pool) {
  const statements = statementsOf('mysql')
  const ask = async (on, name, parameters) => {
    const { text, parameters: names } = statements[name]
    const [result] = await on.execute(
      text,
      names.map((parameter) => given(parameters, parameter)),
    )
    return Array.isArray(result) ? { rows: result, changes: 0 } : { rows: [], changes: result.affectedRows }
  }
  const one = async (on, name, parameters) => (await ask(on, name, parameters)).rows[0]
  const run = async (on, name, parameters) => (await ask(on, name, parameters)).changes
  const transaction = pooledTransaction(() => pool.getConnection(), {
    write: ['SET TRANSACTION ISOLATION LEVEL READ COMMITTED', 'START TRANSACTION'],
    read: ['START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY'],
  })
  return {
    reserve: (attempt) =>
      transaction('write', async (on) => {
        const user = await one(on, 'getUser', attempt)
        if (Number(user.generation) !== attempt.generation || (await one(on, 'isBurnt', attempt))) {
          throw new Error('stale')
        }
        const authenticator = await one(on, 'getLive', attempt)
        const counted = { ...attempt, ...numbersAt(attempt.now) }
        if ((await run(on, 'countAttempt', counted)) === 0) {
          if (await one(on, 'getFailures', counted)) throw new Error('refused')
          await run(on, 'ensureFailures', counted)
          await run(on, 'countAttempt', counted)
        }
        return authenticator
      }),
    spend: (spending) =>
      transaction('write', async (on) => {
        const { generation } = await one(on, 'lockUser', spending)
        if (Number(generation) !== spending.generation) throw new Error('stale')
        must(await run(on, 'consumeToken', spending))
        await run(on, 'forgetTwoBurntTokens', spending)
        if (spending.method === 'totp') must(await run(on, 'spendStep', { ...spending, driftSteps: 0 }))
        else must(await run(on, 'spendBackupCode', spending))
        await run(on, 'giveBackAttempt', spending)
        return Number((await one(on, 'countBackupCodes', spending)).remaining)
      }),
    ...pooledWorks(transaction, ask, one, (name, parameters) => one(pool, name, parameters)),
  }
}

/** What PostgreSQL and MariaDB do alike. */
function pooledWorks(transaction, ask, one, single) {
  return {
    openFamily: (family) =>
      transaction('write', async (on) => {
        await ask(on, 'openFamily', family)
        await ask(on, 'forgetTwoFamilies', family)
      }),
    async putPending(pending) {
      await single('getUser', pending)
      await transaction('write', async (on) => {
        if ((await one(on, 'lockUser', pending)) === undefined) {
          await ask(on, 'ensureUser', pending)
          await one(on, 'lockUser', pending)
        }
        await ask(on, 'deletePending', pending)
        await ask(on, 'insertPending', pending)
      })
    },
    status: ({ userId, now }) =>
      transaction('read', async (on) => ({
        failures: await one(on, 'getFailures', { userId, method: 'totp', ...numbersAt(now) }),
        user: await one(on, 'getUser', { userId }),
        authenticators: (await ask(on, 'getLive', { userId })).rows,
        remaining: Number((await one(on, 'countBackupCodes', { userId })).remaining),
        pending: await one(on, 'getPending', { userId, now }),
        devices: (await ask(on, 'listDevices', { userId, now })).rows,
      })),
  }
}

function pooledTransaction(connect, begin) {
  return async (kind, work) => {
    const on = await connect()
    try {
      for (const statement of begin[kind]) await on.query(statement)
      const result = await work(on)
      await on.query('COMMIT')
      return result
    } catch (error) {
      await on.query('ROLLBACK')
      throw error
    } finally {
      on.release()
    }
  }
}

function must(changes) {
  if (changes !== 1) throw new Error('refused')
}
