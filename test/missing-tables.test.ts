import assert from 'node:assert/strict'
import { createClient } from '@libsql/client'
import postgres from 'postgres'
import { createTotp, generateFernetKey } from 'totp-kit'
import { libsqlStore } from 'totp-kit/store/libsql'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { describe, test } from 'vitest'
import { mysqlPool, postgresPool, services } from './services.ts'

const start = (store: Parameters<typeof createTotp>[0]['store']) =>
  createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store })
const missing = /^Error: the tables of totp-kit are missing: call store\.migrate\(\), or run totp-kit migrate$/

describe('a start without tables says what to do', () => {
  test.skipIf(!services.postgres)('on PostgreSQL, by pg and by postgres.js', async () => {
    const { pool, url, drop } = await postgresPool()
    const sql = postgres(url)

    await assert.rejects(start(postgresStore(pool)), missing)
    await assert.rejects(start(postgresStore(sql)), missing)

    await sql.end()
    await drop()
  })

  // D1 says the same, in `npm run test:runtimes`.
  test('on libSQL', async () => {
    const client = createClient({ url: ':memory:' })

    await assert.rejects(start(libsqlStore(client)), missing)

    client.close()
  })

  test.skipIf(!services.mysql)('on MariaDB', async () => {
    const { pool, drop } = await mysqlPool()

    await assert.rejects(start(mysqlStore(pool)), missing)

    await drop()
  })
})
