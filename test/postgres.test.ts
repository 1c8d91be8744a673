import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import pg from 'pg'
import { createTotp, generateFernetKey } from 'totp-kit'
import { postgresStore } from 'totp-kit/store/postgres'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { statementsFor } from '../src/store/sql/statements.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import type { SingleUse } from '../src/store/store.ts'
import {
  activate,
  add,
  attempt,
  begin,
  byCode,
  byStep,
  challengeOf,
  type Enrolled,
  enroll,
  firstStep,
  limits,
  noon,
  pending,
} from '../src/testing/store-fixtures.ts'
import { postgresPool, services } from './services.ts'
import { until } from './wait-until.ts'

describe.skipIf(!services.postgres)('what PostgreSQL is asked', () => {
  let database: Awaited<ReturnType<typeof postgresPool>>
  beforeAll(async () => {
    database = await postgresPool()
    await postgresStore(database.pool).migrate()
  })
  afterAll(() => database.drop())

  /** A pool that writes down whatever its connections send. */
  function listeningPool() {
    const pool = new pg.Pool({ connectionString: database.url, max: 4 })
    pool.on('error', () => undefined)
    const asked: string[] = []
    pool.on('connect', (client) => {
      const query = client.query.bind(client) as (...args: unknown[]) => unknown
      const listen = (...args: unknown[]) => {
        const [config] = args as [string | { text: string }]
        asked.push(typeof config === 'string' ? config : config.text)
        return query(...args)
      }
      client.query = listen as typeof client.query
    })
    return { pool, asked }
  }

  test('the second step of a login takes two statements, whatever the code: one reads, one settles', async () => {
    const { pool, asked } = listeningPool()
    const clock = fakeClock(noon)
    const options = { issuer: 'Acme', encryptionKey: generateFernetKey(), clock: clock.now }
    const totp = await createTotp({ ...options, store: postgresStore(pool) })
    const { uri } = await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })
    const phone = authenticatorFor(uri)
    const [backupCode = ''] = (await totp.confirmTotpSetup('ann', phone.codeAt(noon))).backupCodes ?? []
    clock.advance(30)
    const asksOf = async (call: () => Promise<unknown>) => {
      asked.length = 0
      await call()
      return asked.length
    }
    const [first, second] = [await totp.generateChallengeToken('ann'), await totp.generateChallengeToken('ann')]

    const byApp = { method: 'totp', code: phone.codeAt(clock.now()) } as const
    const byBackup = { method: 'backup_code', code: backupCode } as const
    assert.equal(await asksOf(() => totp.answerChallenge(first, byApp)), 2)
    assert.equal(await asksOf(() => totp.answerChallenge(second, byBackup)), 2)
    assert.equal(await asksOf(() => totp.startLogin('ann')), 1)
    await pool.end()
  })

  test('what an attempt is judged by takes one statement, its settlement one, and a budget one, whatever a user has', async () => {
    const { pool, asked } = listeningPool()
    const store = postgresStore(pool)
    const user = await add(store, await enroll(store, { userId: 'bea' }), 'second phone of bea')
    const token = challengeOf(user)
    asked.length = 0

    const factors = await store.readFactors(attempt({ userId: 'bea', token }))
    const { outcome } = await store.settleAttempt(byStep(user, firstStep + 1, { token }))
    await store.getFailureBudget('bea', 'totp', noon, limits)

    assert.equal(factors.outcome === 'open' && factors.authenticators.length, 2)
    assert.equal(outcome, 'spent')
    assert.equal(asked.length, 3)
    await pool.end()
  })

  test('every statement finds its rows by an index, in tables of a few thousand users', async () => {
    const { pool } = database
    await fill(pool)
    const scanning: string[] = []

    for (const [name, { text, parameters }] of Object.entries(statementsFor('postgres', tablesOf()))) {
      const values = parameters.map((parameter) => samples[parameter] ?? 1)
      const { rows } = await pool.query(`EXPLAIN (FORMAT JSON) ${text}`, values)
      for (const table of scannedWhole(rows[0]['QUERY PLAN'][0].Plan)) scanning.push(`${name}: ${table}`)
    }

    assert.deepEqual(scanning, [])
  })
})

describe.skipIf(!services.postgres)('a refresh that races the change of factors that keeps its family', () => {
  test('waits for it, and goes on with the family', async () => {
    const { pool, drop } = await postgresPool()
    const store = postgresStore(pool)
    await store.migrate()
    const { generation } = await enroll(store)
    await begin(store, 'family', { generation })
    await store.putPending('ann', pending('new'), generation, limits)
    const client = await pool.connect()
    await client.query('BEGIN')
    await activate(store.within(client), { authenticatorId: 'new', generation, keepFamilyId: 'family' })

    const rotation = {
      familyId: 'family',
      tokenId: 'token of family',
      newTokenId: 'next',
      expiresAt: noon + 999,
      now: noon,
    }
    const rotated = store.rotateFamily(rotation)
    const waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await until(async () => (await pool.query(waiting)).rows.length === 1)
    await client.query('COMMIT')
    client.release()

    assert.equal(await rotated, 'rotated')
    assert.equal(await store.isFamilyAlive('family', 'next', noon), true)
    await drop()
  })
})

describe.skipIf(!services.postgres)('a connection that the pool lends for a transaction', () => {
  test('goes back with no listener of ours', async () => {
    const { pool, drop } = await postgresPool(1)
    const store = postgresStore(pool)
    await store.migrate()
    const listeners: number[] = []
    // Then the pool listens itself.
    pool.on('release', (_, client) => listeners.push(client.listenerCount('error')))

    for (let n = 0; n < 3; n++) await store.raiseGeneration('ann', noon + n)

    assert.deepEqual(listeners, [1, 1, 1])
    await drop()
  })
})

describe.skipIf(!services.postgres)(
  'of two equal answers at the same moment one is spent, and the other is told',
  () => {
    let database: Awaited<ReturnType<typeof postgresPool>>
    beforeAll(async () => {
      database = await postgresPool()
      await postgresStore(database.pool).migrate()
    })
    afterAll(() => database.drop())

    const waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    const ways = [
      [
        'time step',
        'totp_authenticator',
        (user: Enrolled, token: SingleUse | null) => byStep(user, firstStep + 1, { token }),
        'spent_before',
      ],
      [
        'backup code',
        'totp_backup_code',
        (user: Enrolled, token: SingleUse | null) => byCode(user, ['a'], { token }),
        'wrong',
      ],
    ] as const

    for (const [of, table, spendingOf, unchallenged] of ways) {
      test.each([
        ['that the challenge is gone, where both answer one', true, 'stale'],
        ['that the code was used, where there is none', false, unchallenged],
      ])(`of a ${of}: %s`, async (_, isChallenged, later) => {
        const { pool } = database
        const store = postgresStore(pool)
        const user = await enroll(store, { userId: `${of} ${isChallenged}`, codes: ['a'] })
        const spending = spendingOf(user, isChallenged ? challengeOf(user, user.userId) : null)
        const host = await pool.connect()
        await host.query('BEGIN')
        await host.query(`SELECT 1 FROM ${table} FOR UPDATE`)

        const answers = Promise.all([store.settleAttempt(spending), store.settleAttempt(spending)])
        await until(async () => (await pool.query(waiting)).rows.length === 2)
        await host.query('COMMIT')
        host.release()

        assert.deepEqual((await answers).map(({ outcome }) => outcome).sort(), ['spent', later].sort())
      })
    }
  },
)

describe.skipIf(!services.postgres)('a connection that PostgreSQL ends', () => {
  test('in the same packet in which it becomes ready is an error of one request, not of the process', async () => {
    const database = await postgresPool()
    await postgresStore(database.pool).migrate()
    const url = new URL(database.url)
    const { port, hostname } = url
    const proxy = createServer((near) => {
      const far = connect(Number(port), hostname)
      near.on('error', () => far.destroy()).pipe(far)
      far.on('error', () => near.destroy())
      far.on('data', (chunk: Buffer) => {
        const isReady = chunk.subarray(-6).equals(READY_FOR_QUERY)
        if (isReady) near.end(Buffer.concat([chunk, TERMINATED]))
        else near.write(chunk)
      })
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    url.port = String((proxy.address() as AddressInfo).port)
    const pool = new pg.Pool({ connectionString: url.href })
    pool.on('error', () => undefined)
    const uncaught: unknown[] = []
    const note = (error: unknown) => void uncaught.push(error)
    const others = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException').on('uncaughtException', note)
    try {
      await assert.rejects(postgresStore(pool).getStatus('ann', noon, limits))
      await new Promise((resolve) => setImmediate(resolve))
    } finally {
      process.removeListener('uncaughtException', note)
      for (const listener of others) process.on('uncaughtException', listener)
    }
    assert.deepEqual(uncaught, [])
    await pool.end()
    proxy.close()
    await database.drop()
  })
})

const READY_FOR_QUERY = Buffer.from('Z\0\0\0\x05I', 'latin1')
/** What a server sends when an administrator, or a failover, ends a connection. */
const TERMINATED = errorResponse({ S: 'FATAL', C: '57P01', M: 'terminating connection due to administrator command' })

function errorResponse(fields: Readonly<Record<string, string>>): Buffer {
  const body = Buffer.from(
    `${Object.entries(fields)
      .map(([type, value]) => `${type}${value}\0`)
      .join('')}\0`,
  )
  const head = Buffer.from('E\0\0\0\0', 'latin1')
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const user = "'user-' || n"
const USERS = 5000

async function fill(pool: pg.Pool): Promise<void> {
  const rows = (count: number) => `FROM generate_series(1, ${count}) AS n`
  const factor = `'id-' || n, 'Phone', 'sealed', 'SHA1', 6, 30, ${noon}`
  const columns = 'id, name, sealed_secret, algorithm, digits, period_seconds, created_at'
  // A hundredth of what may expire has expired.
  const expiresAt = `${noon} + n - ${USERS / 100}`
  for (const statement of [
    `INSERT INTO totp_user SELECT ${user}, 1, ${noon}, ${noon} ${rows(USERS)}`,
    `INSERT INTO totp_authenticator (user_id, ${columns}, last_step) SELECT ${user}, ${factor}, 1 ${rows(USERS)}`,
    `INSERT INTO totp_pending_authenticator (user_id, ${columns}, expires_at)
      SELECT ${user}, ${factor}, ${expiresAt} ${rows(USERS)}`,
    `INSERT INTO totp_backup_code SELECT 'user-' || n / 10, 'digest-' || n, n % 10, 'sealed', NULL ${rows(USERS * 10)}`,
    `INSERT INTO totp_failure SELECT ${user}, 'totp', 1, 0, 690, 1, 0 ${rows(USERS)}`,
    `INSERT INTO totp_burnt_token SELECT 'token-' || n, ${expiresAt} ${rows(USERS)}`,
    `INSERT INTO totp_refresh_family SELECT 'family-' || n, ${user}, 'token-' || n, 1, ${expiresAt} ${rows(USERS)}`,
    `INSERT INTO totp_trusted_device
      SELECT 'device-' || n, ${user}, 'Laptop', 'token-' || n, 1, ${noon}, ${noon}, ${expiresAt} ${rows(USERS)}`,
    `INSERT INTO totp_throttle SELECT 'key-' || n, 1, ${expiresAt} ${rows(USERS)}`,
    'ANALYZE',
  ]) {
    await pool.query(statement)
  }
}

/** One of the rows for each parameter that finds rows; the others are 1. */
const samples: Readonly<Record<string, unknown>> = {
  userId: 'user-100',
  id: 'another',
  authenticatorId: 'id-100',
  method: 'totp',
  digest: 'digest-1000',
  digests: JSON.stringify(['digest-1000', 'digest-1001']),
  tokenId: 'token-100',
  newTokenId: 'another',
  familyId: 'family-100',
  keepFamilyId: 'family-100',
  deviceId: 'device-100',
  tokenDigest: 'token-100',
  newTokenDigest: 'another',
  keyDigest: 'key-100',
  now: noon,
  expiresAt: noon + 120,
}

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  Plans?: Plan[]
}

/** Read once, at the start: the key check has one row, the migrations a row for each, the catalog none of users. */
const SMALL = ['totp_canary', 'totp_migration', 'pg_attribute']

/** The tables that a plan reads from end to end. */
function scannedWhole(plan: Plan): string[] {
  const own = plan['Node Type'] === 'Seq Scan' ? [plan['Relation Name'] ?? ''] : []
  return [...own.filter((table) => !SMALL.includes(table)), ...(plan.Plans ?? []).flatMap(scannedWhole)]
}
