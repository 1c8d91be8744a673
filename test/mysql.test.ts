import assert from 'node:assert/strict'
import mysql, { type PoolConnection } from 'mysql2/promise'
import { type MysqlPool, mysqlStore } from 'totp-kit/store/mysql'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { currentTables } from '../src/store/sql/migrations.ts'
import { attempt, enroll, limits, noon, pending, wrong } from '../src/testing/store-fixtures.ts'
import { mysqlPool, services } from './services.ts'
import { until } from './wait-until.ts'

describe.skipIf(!services.mysql)('the lock under which MariaDB makes the tables', () => {
  let database: Awaited<ReturnType<typeof mysqlPool>>
  let other: PoolConnection
  /** Of this test only: a lock's name counts for the whole server, where other tests make tables. */
  const prefix = `locked_${process.pid}_`
  const lock = `SHA1('totp-kit:${prefix}migration')`
  beforeAll(async () => {
    database = await mysqlPool()
    other = await database.pool.getConnection()
    await other.query(`SELECT GET_LOCK(${lock}, 0)`)
  })
  afterAll(async () => {
    other.release()
    await database.drop()
  })

  /** Waits until somebody waits for the lock, and gives the number of the connection. */
  async function waiter(): Promise<number> {
    const asking = `SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT GET_LOCK(%${prefix}%'`
    let found: { id: number }[] = []
    await until(async () => {
      found = (await other.query(asking))[0] as typeof found
      return found.length > 0
    })
    return found[0]?.id ?? 0
  }

  const tables = async () => (await database.pool.query('SHOW TABLES'))[0]

  /** A pool on the same database, whose connections wait for no lock. */
  async function impatient<T>(work: (pool: MysqlPool) => Promise<T>): Promise<T> {
    const pool = mysql.createPool({ uri: database.url, connectionLimit: 1 })
    const getConnection = async () => {
      const connection = await pool.getConnection()
      const query = (sql: string) => connection.query(sql.replace(/^(SELECT GET_LOCK.*), 60\)/, '$1, 0)'))
      return Object.assign(Object.create(connection), { query }) as typeof connection
    }
    try {
      return await work(Object.assign(Object.create(pool), { getConnection }) as MysqlPool)
    } finally {
      await pool.end()
    }
  }

  test('who waits for it in vain is told so, and makes no table beside the one who has it', async () => {
    const waiting = impatient((pool) => mysqlStore(pool, { prefix }).migrate())

    await assert.rejects(waiting, /timed out after 60 s waiting for another process/)
    assert.deepEqual(await tables(), [])
  })

  test('who is killed while waiting makes no table either', async () => {
    const waiting = assert.rejects(mysqlStore(database.pool, { prefix }).migrate(), /another process/)

    await other.query(`KILL QUERY ${await waiter()}`)

    await waiting
    assert.deepEqual(await tables(), [])
  })

  test('who waited long enough makes them, and lets the next one in', async () => {
    const waiting = mysqlStore(database.pool, { prefix }).migrate()
    await waiter()

    await other.query(`SELECT RELEASE_LOCK(${lock})`)

    await waiting
    await impatient((pool) => mysqlStore(pool, { prefix }).migrate())
    assert.equal(((await tables()) as unknown[]).length, currentTables.length + 1)
  })
})

describe.skipIf(!services.mysql)('where the host makes transactions of MariaDB READ COMMITTED', () => {
  test('a status is of one moment all the same', async () => {
    const { pool, drop } = await mysqlPool()
    const store = mysqlStore(pool)
    await store.migrate()
    const { userId, generation } = await enroll(store)
    const removal = { limits, token: null, userId, generation, keepFamilyId: null, now: noon }
    const before = await store.getStatus(userId, noon, limits)
    /** Removes all factors once the user's row has been read, and before the next row is. */
    const getConnection = async () => {
      const connection = await pool.getConnection()
      await connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED')
      const execute = async (sql: string, values: never[]) => {
        const answer = await connection.execute(sql, values)
        if (sql.includes('FROM totp_user')) assert.deepEqual(await store.removeFactors(removal), { outcome: 'removed' })
        return answer
      }
      return Object.assign(Object.create(connection), { execute }) as typeof connection
    }
    const halfway = mysqlStore(Object.assign(Object.create(pool), { getConnection }) as MysqlPool)

    assert.deepEqual(await halfway.getStatus(userId, noon, limits), before)
    assert.equal((await store.getStatus(userId, noon, limits)).authenticators.length, 0)
    await drop()
  })
})

describe.skipIf(!services.mysql)("a transaction of the host's that has its snapshot already", () => {
  test('judges a code by the factors of now, and a wrong one is counted without waiting for it', async () => {
    const { pool, drop } = await mysqlPool()
    const store = mysqlStore(pool)
    await store.migrate()
    await store.putPending('ann', pending('first phone'), 0, limits)
    const host = await pool.getConnection()
    await host.query('START TRANSACTION')
    await host.query('SELECT * FROM totp_pending_authenticator')
    await store.putPending('ann', pending('second phone'), 0, limits)

    const inside = store.within(host)
    const factors = await inside.readFactors(attempt({ against: 'pending' }))
    const settled = await inside.settleAttempt(wrong({ against: 'pending' }))

    assert.deepEqual(factors.outcome === 'open' && factors.authenticators.map(({ id }) => id), ['second phone'])
    assert.equal(settled.outcome, 'wrong')
    await host.query('ROLLBACK')
    host.release()
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 1)
    await drop()
  })
})
