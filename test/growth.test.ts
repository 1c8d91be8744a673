import assert from 'node:assert/strict'
import type { TotpStore } from 'totp-kit'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { afterAll, beforeAll, describe, test } from 'vitest'
import {
  begin,
  byStep,
  challengeOf,
  device,
  enroll,
  firstStep,
  limits,
  noon,
  pending,
} from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

interface Opened {
  store: TotpStore
  /** The values of one column of a table. */
  column: (column: string, table: string) => Promise<unknown[]>
  close: () => Promise<void>
}

const databases: { name: string; isThere: boolean; open: () => Promise<Opened> }[] = [
  {
    name: 'SQLite',
    isThere: true,
    async open() {
      const database = await openSqlite(':memory:')
      const store = await sqliteStore(database)
      const column = async (column: string, table: string) =>
        database
          .prepare(`SELECT ${column} AS value FROM ${table}`)
          .all({})
          .map((row) => (row as { value: unknown }).value)
      return { store, column, close: async () => void database.close() }
    },
  },
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async open() {
      const { pool, drop } = await postgresPool()
      const column = async (column: string, table: string) =>
        (await pool.query(`SELECT ${column} AS value FROM ${table}`)).rows.map(({ value }) => value)
      return { store: postgresStore(pool), column, close: drop }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async open() {
      const { pool, drop } = await mysqlPool()
      const column = async (column: string, table: string) =>
        ((await pool.query(`SELECT ${column} AS value FROM ${table}`))[0] as { value: unknown }[]).map(({ value }) =>
          value instanceof Uint8Array ? Buffer.from(value).toString() : value,
        )
      return { store: mysqlStore(pool), column, close: drop }
    },
  },
]

/** What expires, and the column that names a row. */
const expiring = [
  ['totp_pending_authenticator', 'id'],
  ['totp_burnt_token', 'token_id'],
  ['totp_refresh_family', 'id'],
  ['totp_trusted_device', 'id'],
  ['totp_throttle', 'key_digest'],
] as const

for (const { name, isThere, open } of databases) {
  describe.skipIf(!isThere)(`what has expired, in ${name}`, () => {
    let database: Opened
    beforeAll(async () => {
      database = await open()
      await database.store.migrate()
    })
    afterAll(() => database.close())

    test('goes as new rows come: tokens, families, devices and counts of calls', async () => {
      const { store, column } = database
      const user = await enroll(store)

      for (let n = 1; n <= 30; n++) {
        const now = noon + n * 1000
        const challenge = challengeOf(user, `challenge ${n}`, { expiresAt: now + 120 })
        await store.settleAttempt(byStep(user, firstStep + n, { token: challenge, now }))
        await store.consumeToken({ tokenId: `link ${n}`, expiresAt: now + 120 }, now)
        await store.openFamily({ id: `f${n}`, userId: 'ann', tokenId: 't', expiresAt: now + 120 }, 1, now)
        await store.keepTrustedDevice(device(`d${n}`, { createdAt: now, expiresAt: now + 120 }), 1)
        await store.countCall({ keyDigest: `key ${n}`, windowSeconds: 60, now })
      }

      assert.deepEqual((await column('token_id', 'totp_burnt_token')).sort(), ['challenge 30', 'link 30'])
      assert.deepEqual(await column('id', 'totp_refresh_family'), ['f30'])
      assert.deepEqual(await column('id', 'totp_trusted_device'), ['d30'])
      assert.deepEqual(await column('key_digest', 'totp_throttle'), ['key 30'])
    })

    test('goes two rows at a time, so that no log-in pays for a table that has been left to grow', async () => {
      const { store, column } = database
      await store.deleteExpired(noon + 90_000)
      for (const n of [1, 2, 3, 4, 5]) await store.consumeToken({ tokenId: `old ${n}`, expiresAt: noon + 60 }, noon)

      // A burnt mark outlives its token by 60 s.
      await store.consumeToken({ tokenId: 'new', expiresAt: noon + 1000 }, noon + 121)

      assert.equal((await column('token_id', 'totp_burnt_token')).length, 4)
    })

    test('goes at once where the host asks for it', async () => {
      const { store, column } = database
      await store.putPending('ann', pending('new'), 1, limits)
      for (const n of [1, 2, 3, 4, 5]) {
        await store.consumeToken({ tokenId: `token ${n}`, expiresAt: noon + 60 }, noon)
        await begin(store, `family ${n}`)
        await store.keepTrustedDevice(device(`device ${n}`), 1)
        await store.countCall({ keyDigest: `key ${n}`, windowSeconds: 60, now: noon })
      }

      await store.deleteExpired(noon + 2 * 86_400)

      for (const [table, id] of expiring) assert.deepEqual(await column(id, table), [], table)
    })
  })
}
