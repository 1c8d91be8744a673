import assert from 'node:assert/strict'
import postgres from 'postgres'
import { createTotp, generateFernetKey } from 'totp-kit'
import { postgresStore } from 'totp-kit/store/postgres'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { limits, noon, pending } from '../src/testing/store-fixtures.ts'
import { wayTo } from './flaky-proxy.ts'
import { postgresPool, services } from './services.ts'
import { until } from './wait-until.ts'

describe.skipIf(!services.postgres)('a store over postgres.js', () => {
  let database: Awaited<ReturnType<typeof postgresPool>>
  beforeAll(async () => {
    database = await postgresPool()
    await postgresStore(database.pool).migrate()
  })
  afterAll(() => database.drop())

  // An error outside of any promise would fail this file: Vitest reports it.
  test.each([
    ['before', 'ISOLATION LEVEL'],
    ['before', 'totp_pending_authenticator'],
    ['before', 'commit'],
    ['answered', 'FOR UPDATE'],
    ['answered', 'commit'],
  ] as const)('a connection that is cut %s %s fails its call only, and the process goes on', async (when, text) => {
    const way = await wayTo(database.url)
    const sql = postgres(way.url, { max: 1, backoff: () => 0, fetch_types: false })
    const store = postgresStore(sql)
    await store.getUser('ann')
    way.cutAt(text, when)

    await assert.rejects(store.putPending('ann', pending(`${when} ${text}`), 0, limits))

    assert.equal(await store.putPending('ann', pending(`after ${when} ${text}`), 0, limits), true)
    await sql.end({ timeout: 0 })
    await way.close()
  })

  test('a server that ends the connection fails the call, and later ones are answered on a new connection', async () => {
    const sql = postgres(database.url, { max: 1, backoff: () => 0, connection: { application_name: 'ended' } })
    const store = postgresStore(sql)
    const held = await database.pool.connect()
    await held.query('BEGIN')
    await held.query("INSERT INTO totp_user (user_id, generation, changed_at) VALUES ('bob', 0, 0)")
    const waiting = assert.rejects(store.putPending('bob', pending('phone'), 0, limits))
    let ended = 0
    while (ended === 0) {
      const found = await database.pool.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended' AND wait_event_type = 'Lock'",
      )
      ended = found.rowCount ?? 0
    }

    await waiting

    await held.query('ROLLBACK')
    held.release()
    // A call that comes while the connection is still going is refused with it.
    await until(() => store.putPending('bob', pending('phone'), 0, limits).catch(() => false))
    await sql.end({ timeout: 0 })
  })

  test('an enrollment commits with a transaction of sql.begin or not at all, and its event is told after the commit', async () => {
    const sql = postgres(database.url, { max: 3 })
    const clock = fakeClock(noon)
    const store = postgresStore(sql)
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store, clock: clock.now })
    const heard: string[] = []
    totp.on('totp.confirmed', ({ userId }) => void heard.push(userId))
    const phone = authenticatorFor((await totp.createTotpSetup({ id: 'cleo', accountName: 'cleo' })).uri)
    const confirm = (fails: boolean) =>
      totp.transaction((within) =>
        sql.begin(async (tx) => {
          const { backupCodes } = await within(tx, (inside) =>
            inside.confirmTotpSetup('cleo', phone.codeAt(clock.now())),
          )
          if (fails) throw new Error('the host has changed its mind')
          return backupCodes
        }),
      )

    await assert.rejects(confirm(true), /changed its mind/)
    assert.deepEqual([await totp.isTotpEnabled('cleo'), heard], [false, []])
    assert.equal((await confirm(false))?.length, 10)
    assert.deepEqual([await totp.isTotpEnabled('cleo'), heard], [true, ['cleo']])
    await sql.end()
  })

  test('a Sql that transforms the names of columns is refused', () => {
    const sql = postgres(database.url, { transform: postgres.camel })

    assert.throws(() => postgresStore(sql), /must not transform/)
  })
})
