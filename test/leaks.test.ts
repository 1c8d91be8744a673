import { generateTotpSecret } from 'totp-kit'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { describe, expect, onTestFinished, test } from 'vitest'
import { currentTables } from '../src/store/sql/migrations.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import { exerciseAll } from './http/exercise-all.ts'
import { FETCH, type Service, startService } from './http/harness.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

/** A database, and every row in it. */
const databases = [
  {
    name: 'SQLite',
    isThere: true,
    async open() {
      const connection = await openSqlite(':memory:')
      const rows = async (table: string) => connection.prepare(`SELECT * FROM ${table}`).all({})
      return { store: await sqliteStore(connection), rows }
    },
  },
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async open() {
      const { pool, drop } = await postgresPool()
      onTestFinished(drop)
      return {
        store: postgresStore(pool),
        rows: async (table: string) => (await pool.query(`SELECT * FROM ${table}`)).rows,
      }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async open() {
      const { pool, drop } = await mysqlPool()
      onTestFinished(drop)
      return { store: mysqlStore(pool), rows: async (table: string) => (await pool.query(`SELECT * FROM ${table}`))[0] }
    },
  },
]

describe.each(databases)('$name', ({ isThere, open }) => {
  test.skipIf(!isThere)('no secret, code or token stands in the database, an event, an error or a mail', async () => {
    const { store, rows } = await open()
    await store.migrate()
    const service = await startService({ ...FETCH, store: async () => store }, { maxAuthenticators: 2 })
    let seen = 0
    const dump = async () => {
      for (const { name } of currentTables) {
        const found = (await rows(tablesOf()[name])) as Record<string, unknown>[]
        seen += found.length
        for (const row of found) service.leaks.hear(`row of ${name} ${Object.values(row).map(textOf).join(' ')}`)
      }
    }
    const { call } = service
    service.call = async (request) => {
      const answer = await call(request)
      await dump()
      return answer
    }
    service.post = (path, json, bearer) => service.call({ method: 'POST', path, json, bearer })

    await exerciseAll(service)
    await exerciseFunctions(service)
    await dump()
    service.broken.add('settleAttempt')
    await service.totp.verifyBackupCode('1', 'AAAA-AAAA-AAAA-AAAA').catch(() => undefined)

    expect(seen).toBeGreaterThan(100)
    expect(service.leaks.size.secrets).toBeGreaterThan(40)
    expect(service.leaks.size.texts).toBeGreaterThan(200)
    service.leaks.expectNothingLeaked()
  })
})

test('the scan finds what is there: a code in an event, a token in an error, a secret in a row', async () => {
  for (const leak of ['{"code":"123987"}', 'Error: gAAAA-of-a-token', 'row ABCD2345', 'row AAAABBBB']) {
    const service = await startService(FETCH)
    service.leaks.learn({
      otp_code: '123987',
      token: 'gAAAA-of-a-token',
      secret: 'ABCD2345',
      backup_codes: ['AAAA-BBBB'],
    })
    service.leaks.hear('123987654321 and gAAAA-of-another')
    service.leaks.expectNothingLeaked()
    const { leaks } = service
    const scan = Object.assign(Object.create(Object.getPrototypeOf(leaks)), leaks, { heard: [leak] })
    expect(() => scan.expectNothingLeaked()).toThrow()
  }
})

/** What no endpoint does: users who are brought along, listed and forgotten; an import that is refused. */
async function exerciseFunctions({ totp, leaks }: Service): Promise<void> {
  const secret = generateTotpSecret()
  const backupCodes = ['brought-along-one', 'brought-along-two']
  leaks.learn({ secret, backup_codes: backupCodes })
  for (const userId of ['carl', 'dora']) await totp.importAuthenticator(userId, { secret, backupCodes })
  for (const broken of [
    { secret, digits: 5 },
    { secret: `${secret}!` },
    { secret, backupCodes: [...backupCodes, ''] },
  ]) {
    await totp.importAuthenticator('erin', broken).then(
      () => expect.unreachable(),
      (error) => leaks.hear(`${error} ${JSON.stringify(error)}`),
    )
  }
  const statuses = await totp.getStatuses(['carl', 'dora', 'erin'])
  expect([...statuses.values()].map(({ isTotpEnabled }) => isTotpEnabled)).toEqual([true, true, false])
  leaks.hear(`statuses ${JSON.stringify([...statuses])}`)
  await totp.renameAuthenticator('carl', String(statuses.get('carl')?.authenticators[0]?.id), 'Phone')
  await totp.backupCodesSaved('carl')
  await totp.forgetUser('dora')
}

/** MariaDB gives keys as bytes. */
function textOf(value: unknown): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString() : String(value)
}
