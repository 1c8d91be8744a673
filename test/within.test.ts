import assert from 'node:assert/strict'
import { PGlite } from '@electric-sql/pglite'
import { createClient } from 'redis'
import { createTotp, generateFernetKey, type Totp, type TotpStore } from 'totp-kit'
import { withRedis } from 'totp-kit/redis'
import { type MysqlConnection, mysqlStore } from 'totp-kit/store/mysql'
import { type PostgresClient, postgresStore } from 'totp-kit/store/postgres'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { contextOf } from '../src/flows/context.ts'
import {
  attempt,
  byStep,
  challengeOf,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  pending,
} from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, redisUrl, services } from './services.ts'

/** A database with a table of the host's, and the host's transactions on it. */
interface Host {
  store: TotpStore
  /** A transaction of the host's, and the store within it. */
  begin(): Promise<{ inside: TotpStore; execute(sql: string): Promise<unknown>; release(): void }>
  /** The names in the host's table, as another connection sees them. */
  accounts(): Promise<string[]>
  drop(): Promise<void>
}

const CREATE_ACCOUNT = 'CREATE TABLE account (name VARCHAR(40) NOT NULL)'
const namesOf = (rows: unknown) => (rows as { name: string }[]).map(({ name }) => name)

const hosts = [
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async make(): Promise<Host> {
      const { pool, drop } = await postgresPool()
      const store = postgresStore(pool)
      await store.migrate()
      await pool.query(CREATE_ACCOUNT)
      return {
        store,
        async begin() {
          const client = await pool.connect()
          await client.query('BEGIN')
          const inside = store.within(client as PostgresClient)
          return { inside, execute: (sql) => client.query(sql), release: () => client.release() }
        },
        accounts: async () => namesOf((await pool.query('SELECT name FROM account ORDER BY name')).rows),
        drop,
      }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async make(): Promise<Host> {
      const { pool, drop } = await mysqlPool()
      const store = mysqlStore(pool)
      await store.migrate()
      await pool.query(CREATE_ACCOUNT)
      return {
        store,
        async begin() {
          const connection = await pool.getConnection()
          await connection.query('START TRANSACTION')
          const inside = store.within(connection as MysqlConnection)
          return { inside, execute: (sql) => connection.query(sql), release: () => connection.release() }
        },
        accounts: async () => namesOf((await pool.query('SELECT name FROM account ORDER BY name'))[0]),
        drop,
      }
    },
  },
]

const encryptionKey = generateFernetKey()

for (const { name, isThere, make } of hosts) {
  describe.skipIf(!isThere)(`within a transaction of the host's on ${name}`, () => {
    let host: Host
    beforeAll(async () => {
      host = await make()
    })
    afterAll(() => host.drop())

    const serviceOn = (store: TotpStore, clock: () => number): Promise<Totp> =>
      createTotp({ issuer: 'Acme', encryptionKey, store, clock, onError: () => undefined })

    /** A user who has scanned the QR code and has not confirmed. */
    async function halfEnrolled(userId: string) {
      const clock = fakeClock(noon)
      const totp = await serviceOn(host.store, clock.now)
      const { uri } = await totp.createTotpSetup({ id: userId, accountName: userId })
      return { totp, clock, phone: authenticatorFor(uri) }
    }

    test('an activation commits with the row of the host, and nobody sees it before', async () => {
      const { totp, clock, phone } = await halfEnrolled('ann')
      const { inside, execute, release } = await host.begin()

      await execute("INSERT INTO account VALUES ('ann')")
      await (await serviceOn(inside, clock.now)).confirmTotpSetup('ann', phone.codeAt(noon))

      assert.equal(await totp.isTotpEnabled('ann'), false)
      await execute('COMMIT')
      release()
      assert.equal(await totp.isTotpEnabled('ann'), true)
      assert.deepEqual(await host.accounts(), ['ann'])
      await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(noon)), { code: 'code_already_used' })
    })

    test('an activation that the host rolls back has not happened, and the same code confirms later', async () => {
      const { totp, clock, phone } = await halfEnrolled('bob')
      const { inside, execute, release } = await host.begin()

      await execute("INSERT INTO account VALUES ('bob')")
      await (await serviceOn(inside, clock.now)).confirmTotpSetup('bob', phone.codeAt(noon))
      await execute('ROLLBACK')
      release()

      const { authenticators, backupCodesRemaining, pending } = await totp.getStatus('bob')
      const user = await contextOf(totp).store.getUser('bob')
      assert.deepEqual(user, { generation: 0, changedAt: 0, confirmedAt: null })
      assert.deepEqual(
        { authenticators, backupCodesRemaining, isPending: pending !== null },
        {
          authenticators: [],
          backupCodesRemaining: 0,
          isPending: true,
        },
      )
      assert.equal((await host.accounts()).includes('bob'), false)
      assert.equal((await totp.confirmTotpSetup('bob', phone.codeAt(noon))).backupCodes?.length, 10)
    })

    test('attempts stay counted when the host rolls back', async () => {
      const { totp, clock, phone } = await halfEnrolled('cleo')
      await totp.confirmTotpSetup('cleo', phone.codeAt(noon))
      const right = phone.codeAt(noon + 30)
      const wrong = right === '000000' ? '111111' : '000000'

      for (let n = 0; n < 5; n++) {
        const { inside, execute, release } = await host.begin()
        const totpInside = await serviceOn(inside, clock.now)
        await assert.rejects(totpInside.verifyTotpCode('cleo', wrong), { code: 'invalid_code' })
        await execute('ROLLBACK')
        release()
      }

      await assert.rejects(totp.verifyTotpCode('cleo', right), { code: 'too_many_attempts' })
    })

    test('what is left of a budget is as of now, whatever the transaction saw first', async () => {
      await enroll(host.store, { userId: 'carl' })
      const { inside, execute, release } = await host.begin()
      await execute('SELECT count(*) FROM totp_failure')

      await fail(inside, { userId: 'carl' })
      const { attemptsLeft } = await inside.getFailureBudget('carl', 'totp', noon, limits)

      await execute('COMMIT')
      release()
      assert.equal(attemptsLeft, 4)
    })

    test('a code that was spent in a transaction is spent with it, and is free again after its roll-back', async () => {
      const user = await enroll(host.store, { userId: 'dora' })
      const spending = byStep(user, firstStep + 1)

      const undone = await host.begin()
      await fail(host.store, { userId: 'dora' })
      assert.equal((await undone.inside.settleAttempt(spending)).outcome, 'spent')
      await undone.execute('ROLLBACK')
      undone.release()
      const kept = await host.begin()
      assert.equal((await kept.inside.settleAttempt(spending)).outcome, 'spent')
      await kept.execute('COMMIT')
      kept.release()

      assert.equal((await host.store.settleAttempt(spending)).outcome, 'spent_before')
    })

    test('a change that is refused leaves the transaction of the host as it was', async () => {
      const { inside, execute, release } = await host.begin()
      await execute("INSERT INTO account VALUES ('eve')")

      assert.equal(await inside.putPending('eve', pending('phone of eve'), 7, limits), false)
      assert.equal(await inside.putPending('eve', pending('phone of eve'), 0, limits), true)

      await execute('COMMIT')
      release()
      assert.equal((await host.accounts()).includes('eve'), true)
      assert.equal((await host.store.readFactors(attempt({ userId: 'eve', against: 'pending' }))).outcome, 'open')
    })

    test('a statement that fails undoes its own change only, and the host may go on', async () => {
      const { inside, execute, release } = await host.begin()
      await execute("INSERT INTO account VALUES ('finn')")
      // A column that may not be NULL: by then the pending row of the first phone is already deleted.
      const broken = pending('second phone of finn', { sealedSecret: null as unknown as string })

      assert.equal(await inside.putPending('finn', pending('first phone of finn'), 0, limits), true)
      await assert.rejects(inside.putPending('finn', broken, 0, limits))

      await execute('COMMIT')
      release()
      assert.equal((await host.accounts()).includes('finn'), true)
      const factors = await host.store.readFactors(attempt({ userId: 'finn', against: 'pending' }))
      assert.equal(factors.outcome === 'open' && factors.authenticators[0]?.id, 'first phone of finn')
    })
  })
}

describe.skipIf(!services.postgres)('a store over a single connection', () => {
  test('is none within a transaction on the same one: its count of failures would be rolled back too', async () => {
    const { pool, drop } = await postgresPool()
    const client = (await pool.connect()) as PostgresClient & { release(): void }
    const store = postgresStore(client)

    assert.throws(() => store.within(client), /a different connection/)

    client.release()
    await drop()
  })
})

test('a store over PGlite is none within a transaction: there is one connection', async () => {
  const database = await PGlite.create()
  const store = postgresStore(database)

  await database.transaction(async (transaction) => {
    assert.throws(() => store.within(transaction as unknown as PostgresClient), /a different connection/)
  })

  await database.close()
}, 60_000)

describe.skipIf(!services.postgres || !services.redis)('with Redis in front', () => {
  test('what is burnt is burnt within a transaction of the host too, and stays so when it is rolled back', async () => {
    const { pool, drop } = await postgresPool()
    const redis = createClient({ url: redisUrl })
    await redis.connect()
    const store = withRedis(postgresStore(pool), redis, { prefix: `within_${process.pid}:` })
    await store.migrate()
    const user = await enroll(store)
    const before = challengeOf(user, 'before')
    const inside = challengeOf(user, 'inside')
    const client = (await pool.connect()) as PostgresClient & { release(): void }
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1, { token: before }))).outcome, 'spent')

    await client.query('BEGIN')
    const within = store.within(client)
    assert.equal((await within.settleAttempt(byStep(user, firstStep + 2, { token: before }))).outcome, 'stale')
    assert.equal((await within.settleAttempt(byStep(user, firstStep + 2, { token: inside }))).outcome, 'spent')
    await client.query('ROLLBACK')
    client.release()

    assert.equal((await store.settleAttempt(byStep(user, firstStep + 3, { token: inside }))).outcome, 'stale')
    redis.destroy()
    await drop()
  })
})

describe.skipIf(!services.postgres)('where the tables stand in PostgreSQL', () => {
  let database: Awaited<ReturnType<typeof postgresPool>>
  beforeAll(async () => {
    database = await postgresPool()
  })
  afterAll(() => database.drop())

  test('migrate makes the schema, and the tables in it begin with the prefix', async () => {
    const store = postgresStore(database.pool, { schema: 'auth', prefix: 'mfa_' })

    await store.migrate()
    await store.migrate()

    const { rows } = await database.pool.query(
      "SELECT schemaname, count(*)::int AS tables FROM pg_tables WHERE tablename LIKE 'mfa\\_%' GROUP BY schemaname",
    )
    assert.deepEqual(rows, [{ schemaname: 'auth', tables: 11 }])
    const user = await enroll(store)
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
  })

  test('stores with other prefixes or schemas share a pool and know nothing of each other', async () => {
    const options = [{}, { prefix: 'a_' }, { schema: 'x' }, { schema: 'x', prefix: 'a_' }]
    const stores = options.map((option) => postgresStore(database.pool, option))
    for (const store of stores) await store.migrate()

    const { rows } = await database.pool.query("SELECT nspname FROM pg_namespace WHERE nspname IN ('x', 'undefined')")
    assert.deepEqual(rows, [{ nspname: 'x' }], 'and no schema is made that was not named')
    for (const [n, store] of stores.entries()) {
      const before = await Promise.all(stores.map((each) => each.getUser('zoe')))
      await store.raiseGeneration('zoe', noon)
      const after = await Promise.all(stores.map((each) => each.getUser('zoe')))
      const raised = after.flatMap(({ generation }, m) => (generation === before[m]?.generation ? [] : [m]))
      assert.deepEqual(raised, [n])
    }
  })

  test('a schema that migrate makes is as good for a store within a transaction', async () => {
    const store = postgresStore(database.pool, { schema: 'inner_auth' })
    await store.migrate()
    const client = await database.pool.connect()
    await client.query('BEGIN')
    await store.within(client as PostgresClient).raiseGeneration('ann', noon)
    assert.equal((await store.getUser('ann')).generation, 0)
    await client.query('COMMIT')
    client.release()
    assert.equal((await store.getUser('ann')).generation, 1)
  })
})
