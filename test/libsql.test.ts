import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, createClient } from '@libsql/client'
import { libsqlStore } from 'totp-kit/store/libsql'
import { afterEach, beforeEach, test } from 'vitest'
import { migrations } from '../src/store/sql/migrations.ts'
import { noon } from '../src/testing/store-fixtures.ts'

let directory: string
let clients: Client[]
const connect = () => {
  const client = createClient({ url: `file:${join(directory, 'totp.db')}` })
  clients.push(client)
  return client
}
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'totp-kit-libsql-'))
  clients = []
})
afterEach(async () => {
  for (const client of clients) client.close()
  await rm(directory, { recursive: true })
})

test('of many that migrate at once on an empty database one makes the tables', async () => {
  const stores = Array.from({ length: 8 }, () => libsqlStore(connect()))

  await Promise.all(stores.map((store) => store.migrate()))

  const { rows } = await connect().execute('SELECT version FROM totp_migration ORDER BY version')
  assert.deepEqual(
    rows.map(({ version }) => version),
    migrations.map((_, step) => step + 1),
  )
  for (const store of stores) await store.raiseGeneration('ann', noon)
  assert.equal((await stores[0]?.getUser('ann'))?.generation, stores.length)
})

test('a migration that fails leaves nothing behind', async () => {
  const client = connect()
  await client.execute('CREATE TABLE other (name TEXT)')
  await client.execute('CREATE INDEX totp_trusted_device_user_id ON other (name)')

  await assert.rejects(libsqlStore(client).migrate(), /totp_trusted_device_user_id already exists/)

  const { rows } = await client.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
  assert.deepEqual(
    rows.map(({ name }) => name),
    ['other'],
  )
})

test("an operation waits for the host's open transaction, and timers run meanwhile", async () => {
  const client = connect()
  const store = libsqlStore(client)
  await store.migrate()
  const transaction = await client.transaction('write')
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)

  const raised = store.raiseGeneration('ann', noon).then(() => 'raised')
  const first = await Promise.race([raised, new Promise((resolve) => setTimeout(resolve, 200, 'waits'))])
  assert.equal(first, 'waits')
  assert.ok(ticks > 20)
  await transaction.commit()

  assert.equal(await raised, 'raised')
  assert.equal((await store.getUser('ann')).generation, 1)
  clearInterval(timer)
})

test('an operation gives up after five seconds, and changes nothing later', async () => {
  const client = connect()
  const store = libsqlStore(client)
  await store.migrate()
  const transaction = await client.transaction('write')
  const begun = performance.now()

  await assert.rejects(store.raiseGeneration('ann', noon), { code: 'SQLITE_BUSY' })

  assert.ok(performance.now() - begun < 7000)
  await transaction.commit()
  assert.equal((await store.getUser('ann')).generation, 0)
})

test("closing the store leaves the host's client open", async () => {
  const client = connect()
  const store = libsqlStore(client)
  await store.migrate()

  await store.close()

  assert.equal(client.closed, false)
  assert.equal((await client.execute('SELECT 1 AS one')).rows[0]?.one, 1)
})
