import assert from 'node:assert/strict'
import { createTotp, generateFernetKey, type TotpEvent } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { noon } from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

interface Client {
  query(sql: string): Promise<unknown>
  release(): void
}

const databases = [
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async make() {
      const { pool, drop } = await postgresPool()
      return { store: postgresStore(pool), lend: async (): Promise<Client> => pool.connect(), drop }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async make() {
      const { pool, drop } = await mysqlPool()
      return { store: mysqlStore(pool), lend: async (): Promise<Client> => pool.getConnection(), drop }
    },
  },
]

for (const { name, isThere, make } of databases) {
  describe.skipIf(!isThere)(`totp.within on ${name}`, () => {
    let database: Awaited<ReturnType<typeof make>>
    beforeAll(async () => {
      database = await make()
      await database.store.migrate()
    })
    afterAll(() => database.drop())

    /** A service, a half enrolled user, and a transaction that is open on a lent connection. */
    async function begun(userId: string) {
      const clock = fakeClock(noon)
      const { store } = database
      const totp = await createTotp({ issuer: 'Acme', encryptionKey: sharedKey, store, clock: clock.now })
      const heard: TotpEvent['type'][] = []
      const sessions: (string | undefined)[] = []
      let arrived = () => {}
      for (const type of ['totp.confirmed', 'totp.refused'] as const) {
        totp.on(type, ({ sessionId }) => {
          heard.push(type)
          sessions.push(sessionId)
          arrived()
        })
      }
      const nextEvent = () =>
        new Promise<void>((resolve) => {
          arrived = resolve
        })
      const phone = authenticatorFor((await totp.createTotpSetup({ id: userId, accountName: userId })).uri)
      const client = await database.lend()
      await client.query('START TRANSACTION')
      const confirm = () =>
        totp.within(client, (inside) =>
          inside.confirmTotpSetup(userId, phone.codeAt(clock.now()), { sessionId: 'own' }),
        )
      return { totp, client, phone, clock, heard, sessions, confirm, nextEvent }
    }
    const sharedKey = generateFernetKey()

    test('an enrollment commits with the transaction, and its event is told after the commit', async () => {
      const { totp, client, heard, sessions, confirm, nextEvent } = await begun('ann')

      assert.equal((await confirm()).backupCodes?.length, 10)
      assert.equal(await totp.isTotpEnabled('ann'), false)
      assert.deepEqual(heard, [])
      const told = nextEvent()
      await client.query('COMMIT')
      await told
      client.release()

      assert.equal(await totp.isTotpEnabled('ann'), true)
      assert.deepEqual(heard, ['totp.confirmed'])
      assert.deepEqual(sessions, ['own'])
    })

    test('after a roll-back, or a connection given back without a commit, nothing is told', async () => {
      const { totp, client, heard, confirm } = await begun('bob')
      await confirm()
      await client.query('ROLLBACK')
      await client.query('START TRANSACTION')
      await client.query('COMMIT')
      client.release()

      assert.equal(await totp.isTotpEnabled('bob'), false)
      assert.deepEqual(heard, [])
    })

    test('a wrong code is told at once, and stays counted after the roll-back', async () => {
      const { totp, client, heard, nextEvent } = await begun('cleo')
      const told = nextEvent()

      const wrong = totp.within(client, (inside) => inside.confirmTotpSetup('cleo', '0000000'))
      await assert.rejects(wrong, { code: 'invalid_code' })
      await told
      await client.query('ROLLBACK')
      client.release()

      assert.deepEqual(heard, ['totp.refused'])
      const { attemptsLeft } = await totp.confirmTotpSetup('cleo', '0000000').then(
        () => assert.fail(),
        (error) => error,
      )
      assert.equal(attemptsLeft, 3)
    })

    test('it sends nothing that the work does not need, and its deadline is that of the store', async () => {
      const { totp, client } = await begun('dora')
      const sent: unknown[] = []
      const { query } = client
      client.query = (sql) => {
        sent.push(sql)
        return query.call(client, sql)
      }

      assert.equal(await totp.within(client, async () => 'nothing'), 'nothing')
      await assert.rejects(
        totp.within(client, async (inside) => inside.isTotpEnabled('dora'), { deadlineMs: 0 }),
        RangeError,
      )

      assert.deepEqual(sent, [])
      client.query = query
      await client.query('ROLLBACK')
      client.release()
    })

    test('a transaction that the host sees the end of tells its events when it has resolved, and none when it rejects', async () => {
      const { totp, client, heard, phone, clock } = await begun('eve')
      const confirmIn = (end: string) =>
        totp.transaction(async (within) => {
          await within({ ...methodsOf(client), endsUnseen: true }, (inside) =>
            inside.confirmTotpSetup('eve', phone.codeAt(clock.now())),
          )
          await client.query(end)
          if (end === 'ROLLBACK') throw new Error('the host has changed its mind')
        })

      await assert.rejects(confirmIn('ROLLBACK'), /changed its mind/)
      assert.deepEqual(heard, [])
      await client.query('START TRANSACTION')
      await confirmIn('COMMIT')
      client.release()

      await Promise.resolve()
      assert.deepEqual(heard, ['totp.confirmed'])
    })

    test('a client that does not show the end of its transaction needs totp.transaction', async () => {
      const { totp, client } = await begun('finn')

      const within = totp.within({ ...methodsOf(client), endsUnseen: true }, async () => undefined)

      await assert.rejects(within, /totp\.transaction/)
      await client.query('ROLLBACK')
      client.release()
    })
  })
}

/** As an ORM hands its transaction out: an object that sends statements, on which no COMMIT is ever seen. */
function methodsOf(client: Client) {
  const { query, execute } = client as Client & { execute?: (...args: unknown[]) => unknown }
  return {
    query: (...args: [string]) => query.apply(client, args),
    ...(execute ? { execute: (...args: unknown[]) => execute.apply(client, args) } : {}),
  }
}

describe.skipIf(!services.postgres)('a COMMIT that PostgreSQL answers with a roll-back', () => {
  test('tells nothing', async () => {
    const { pool, drop } = await postgresPool()
    const store = postgresStore(pool)
    await store.migrate()
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store })
    const heard: string[] = []
    totp.on('credentials.changed', ({ userId }) => void heard.push(userId))
    const client = await pool.connect()
    await client.query('BEGIN')
    await totp.within(client, (inside) => inside.credentialsChanged('ann'))
    await assert.rejects(client.query('SELECT * FROM nowhere'))

    await client.query('COMMIT')

    assert.equal((await store.getUser('ann')).generation, 0)
    assert.deepEqual(heard, [])
    client.release()
    await drop()
  })
})

test('a store that has no `within` says so', async () => {
  const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })

  await assert.rejects(
    totp.within({}, async () => undefined),
    new TypeError('this store does not support totp.within'),
  )
})
