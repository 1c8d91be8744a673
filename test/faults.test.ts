import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { createTotp, generateFernetKey, type Proof, type Totp, TotpError, type TotpStore } from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import { withRedis } from 'totp-kit/redis'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { afterAll, afterEach, beforeAll, describe, test, vi } from 'vitest'
import { backupCodes, begin, byStep, enroll, firstStep, limits, noon } from '../src/testing/store-fixtures.ts'
import { type Way, wayTo } from './flaky-proxy.ts'
import { mysqlPool, postgresPool, redisUrl, services } from './services.ts'
import { until } from './wait-until.ts'

/** A pool of a test's own. It ends a little before its connections do, which may see the database dropped. */
function poolAt(url: string, options: pg.PoolConfig): pg.Pool {
  return new pg.Pool({ connectionString: url, ...options }).on('error', () => undefined)
}

function serviceOf(store: TotpStore, encryptionKey: string, clock: () => number): Promise<Totp> {
  return createTotp({ issuer: 'Acme', encryptionKey, store, clock, onError: () => undefined })
}

/** Ann with 2FA on, one time step later, so that `code` is good and unused. */
async function enrolled(store: TotpStore, encryptionKey = generateFernetKey()) {
  const clock = fakeClock(noon)
  const totp = await serviceOf(store, encryptionKey, clock.now)
  const { uri } = await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })
  const phone = authenticatorFor(uri)
  const { proof, ...confirmed } = await totp.confirmTotpSetup('ann', phone.codeAt(clock.now()))
  const backupCodes = confirmed.backupCodes ?? []
  clock.advance(30)
  return { totp, clock, phone, proof, backupCodes, code: phone.codeAt(clock.now()) }
}

/** A store on a file of its own, and the connection that it uses. */
async function onSqlite(work: (store: TotpStore, execute: (sql: string) => unknown) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-faults-'))
  const database = await openSqlite(join(directory, 'totp.db'))
  try {
    await work(await sqliteStore(database), (sql) => database.exec(sql))
  } finally {
    database.close()
    await rm(directory, { recursive: true })
  }
}

/** The secret of an authenticator that somebody has had elsewhere. */
const BROUGHT = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'

/** Each flow that asks the store, as a host calls it. */
function everyFlow(
  totp: Totp,
  token: string,
  code: string,
  backupCode: string,
  proof: Proof,
): Record<string, () => Promise<unknown>> {
  return {
    isTotpEnabled: () => totp.isTotpEnabled('ann'),
    getStatus: () => totp.getStatus('ann'),
    startLogin: () => totp.startLogin('ann'),
    generateChallengeToken: () => totp.generateChallengeToken('ann'),
    verifyChallengeToken: () => totp.verifyChallengeToken(token),
    answerChallenge: () => totp.answerChallenge(token, { method: 'totp', code }),
    createTotpSetup: () => totp.createTotpSetup({ id: 'ann', accountName: 'ann' }),
    confirmTotpSetup: () => totp.confirmTotpSetup('ann', code),
    verifyTotpCode: () => totp.verifyTotpCode('ann', code),
    verifyBackupCode: () => totp.verifyBackupCode('ann', backupCode),
    disableTotp: () => totp.disableTotp('ann'),
    storeBackupCodes: () => totp.storeBackupCodes('ann', ['a-code-of-the-host']),
    rotateBackupCodes: () => totp.rotateBackupCodes('ann'),
    listBackupCodes: () => totp.listBackupCodes('ann'),
    credentialsChanged: () => totp.credentialsChanged('ann'),
    getStatuses: () => totp.getStatuses(['ann', 'bob']),
    importAuthenticator: () => totp.importAuthenticator('ann', { secret: BROUGHT }),
    renameAuthenticator: () => totp.renameAuthenticator('ann', 'phone', 'Phone'),
    backupCodesSaved: () => totp.backupCodesSaved('ann'),
    raiseSession: () => jwtTokens(totp, { authenticate: async () => null }).raiseSession(proof, 'family'),
    forgetUser: () => totp.forgetUser('ann'),
  }
}

const isUnavailable = (error: unknown) => error instanceof TotpError && error.code === 'unavailable'

/** Whether a statement of this database waits for a lock. */
async function isWaiting(connect: () => Promise<{ query(sql: string): Promise<unknown>; release(): void }>) {
  const connection = await connect()
  const isPostgres = !('execute' in connection)
  const answer = await connection.query(
    isPostgres
      ? "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
      : // The table is made anew when it was not read for 0.1 s.
        "SELECT 1 FROM (SELECT SLEEP(0.12)) AS pause, information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
  )
  connection.release()
  const rows = isPostgres ? (answer as { rows: unknown[] }).rows : (answer as [unknown[]])[0]
  return rows.length > 0
}

describe.for([
  { name: 'PostgreSQL', isThere: services.postgres },
  { name: 'MariaDB', isThere: services.mysql },
])('a change that waits too long for a lock on $name', ({ name, isThere }) => {
  test.skipIf(!isThere)('is refused, and is not made later', async () => {
    const database = name === 'PostgreSQL' ? await postgresPool() : await mysqlPool()
    const store = 'totalCount' in database.pool ? postgresStore(database.pool) : mysqlStore(database.pool as mysql.Pool)
    await store.migrate()
    const { totp } = await enrolled(store)
    const connect = (): Promise<{ query(sql: string): Promise<unknown>; release(): void }> =>
      'totalCount' in database.pool ? database.pool.connect() : (database.pool as mysql.Pool).getConnection()
    const host = await connect()
    await host.query('BEGIN')
    await host.query("SELECT 1 FROM totp_user WHERE user_id = 'ann' FOR UPDATE")
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    try {
      const refused = assert.rejects(totp.disableTotp('ann'), isUnavailable)
      while (!(await isWaiting(connect))) await new Promise((resolve) => setImmediate(resolve))
      await vi.advanceTimersByTimeAsync(10_000)
      await refused
      await host.query('ROLLBACK')
      host.release()
      // The call has come to its end when the lock can be had again.
      const next = await connect()
      await next.query('BEGIN')
      await next.query("SELECT 1 FROM totp_user WHERE user_id = 'ann' FOR UPDATE")
      await next.query('ROLLBACK')
      next.release()
    } finally {
      vi.useRealTimers()
    }

    assert.equal(await totp.isTotpEnabled('ann'), true)
    await database.drop()
  })
})

/** A database of its own for a test, reached by a way that can be cut and, to look at it, straight. */
interface Reached {
  way: Way
  store: TotpStore
  /** How often a connection was given back to the pool to be used again. */
  reusable(): number
  /** The same tables through a pool whose only connection is taken. */
  exhausted(): Promise<{ store: TotpStore; release(): Promise<void> }>
  /** The failures counted for Ann's app codes. */
  failures(): Promise<number>
  drop(): Promise<void>
}

const databases = [
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    settling: 'totp_settleStepWhole',
    committing: 'totp_settleStepWhole',
    commit: 'COMMIT\u0000',
    raising: 'totp_raiseFamily',
    async reach(): Promise<Reached> {
      const straight = await postgresPool(2)
      const way = await wayTo(straight.url)
      const pool = poolAt(way.url, { max: 4 })
      let reusable = 0
      pool.on('release', (broken) => {
        if (!broken) reusable++
      })
      const store = postgresStore(pool)
      await store.migrate()
      return {
        way,
        store,
        reusable: () => reusable,
        async exhausted() {
          const small = poolAt(straight.url, { max: 1, connectionTimeoutMillis: 500 })
          const client = await small.connect()
          let held = true
          return {
            store: postgresStore(small),
            async release() {
              if (held) client.release()
              else await small.end()
              held = false
            },
          }
        },
        async failures() {
          const { rows } = await straight.pool.query("SELECT consecutive FROM totp_failure WHERE method = 'totp'")
          return Number(rows[0]?.consecutive ?? 0)
        },
        async drop() {
          await pool.end()
          await way.close()
          await straight.drop()
        },
      }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    settling: 'SET last_step',
    committing: '\u0003COMMIT',
    commit: '\u0003COMMIT',
    raising: 'UPDATE totp_refresh_family',
    async reach(): Promise<Reached> {
      const straight = await mysqlPool(2)
      const way = await wayTo(straight.url)
      const pool = mysql.createPool({ uri: way.url, connectionLimit: 4 })
      let reusable = 0
      pool.on('release', () => reusable++)
      const store = mysqlStore(pool)
      await store.migrate()
      return {
        way,
        store,
        reusable: () => reusable,
        async exhausted() {
          const small = mysql.createPool({ uri: straight.url, connectionLimit: 1, waitForConnections: false })
          const connection = await small.getConnection()
          let held = true
          return {
            store: mysqlStore(small),
            async release() {
              if (held) connection.release()
              else await small.end()
              held = false
            },
          }
        },
        async failures() {
          const [rows] = await straight.pool.query("SELECT consecutive FROM totp_failure WHERE method = 'totp'")
          return Number((rows as { consecutive?: number }[])[0]?.consecutive ?? 0)
        },
        async drop() {
          await pool.end()
          await way.close()
          await straight.drop()
        },
      }
    },
  },
]

for (const { name, isThere, settling, committing, commit, raising, reach } of databases) {
  describe.skipIf(!isThere)(name, () => {
    let reached: Reached
    beforeAll(async () => {
      reached = await reach()
    })
    afterAll(() => reached.drop())
    /** A pool needs a moment to hear that connections it had put aside are broken; it opens new ones by itself. */
    const isBack = () =>
      until(() =>
        reached.store.getUser('ann').then(
          () => true,
          () => false,
        ),
      )
    afterEach(async () => {
      const { store } = reached
      await isBack()
      const { generation } = await store.getUser('ann')
      await store.removeFactors({ limits, token: null, userId: 'ann', generation, keepFamilyId: null, now: noon })
    })
    /** The tables are shared, so the key has to be. */
    const encryptionKey = generateFernetKey()
    const service = (store: TotpStore) => enrolled(store, encryptionKey)

    test('a connection cut between reading and settling costs neither an attempt nor the code', async () => {
      const { totp, code } = await service(reached.store)
      const token = await totp.generateChallengeToken('ann')
      reached.way.cutAt(settling, 'before')

      await assert.rejects(totp.answerChallenge(token, { method: 'totp', code }), isUnavailable)

      await isBack()
      assert.equal(await reached.failures(), 0)
      const proof = await totp.answerChallenge(token, { method: 'totp', code })
      assert.equal(proof.userId, 'ann')
      assert.equal(await reached.failures(), 0)
    })

    test('a connection cut before the answer lets nobody in, and a code that was spent stays so', async () => {
      const { totp, code, phone, clock } = await service(reached.store)
      reached.way.cutAt(committing, 'answered')

      await assert.rejects(totp.verifyTotpCode('ann', code), isUnavailable)

      await isBack()
      await assert.rejects(totp.verifyTotpCode('ann', code), { code: 'code_already_used' })
      clock.advance(30)
      assert.equal((await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))).userId, 'ann')
    })

    test('without the database every flow is unavailable, and all is as before when it is back', async () => {
      const { totp, code, backupCodes, proof } = await service(reached.store)
      const token = await totp.generateChallengeToken('ann')
      const before = await totp.getStatus('ann')
      await reached.way.close()

      for (const [flow, call] of Object.entries(everyFlow(totp, token, code, backupCodes[0] ?? '', proof))) {
        await assert.rejects(call(), isUnavailable, flow)
      }

      await reached.way.open()
      await isBack()
      assert.deepEqual(await totp.getStatus('ann'), before)
      assert.equal((await totp.answerChallenge(token, { method: 'totp', code })).userId, 'ann')
      assert.equal((await totp.verifyBackupCode('ann', backupCodes[0] ?? '')).backupCodesRemaining, 9)
    })

    test('a connection cut before the commit leaves nothing half done: nobody is half forgotten or half brought in', async () => {
      const { totp, code, backupCodes } = await service(reached.store)
      const { generation } = await reached.store.getUser('ann')
      const before = await totp.getStatuses(['ann', 'bob'])
      const changes = {
        forgetUser: () => totp.forgetUser('ann'),
        importAuthenticator: () => totp.importAuthenticator('bob', { secret: BROUGHT, backupCodes: ['brought-along'] }),
      }

      for (const [flow, change] of Object.entries(changes)) {
        reached.way.cutAt(commit, 'before')
        await assert.rejects(change(), isUnavailable, flow)
        await isBack()
      }

      assert.deepEqual(await totp.getStatuses(['ann', 'bob']), before)
      assert.equal((await reached.store.getUser('ann')).generation, generation)
      assert.equal((await totp.verifyTotpCode('ann', code)).userId, 'ann')
      assert.equal((await totp.verifyBackupCode('ann', backupCodes[0] ?? '')).backupCodesRemaining, 9)
      assert.equal(await changes.importAuthenticator(), 'imported')
      await totp.forgetUser('bob')
    })

    test('a connection cut before a session is raised leaves its refresh token alive', async () => {
      const { totp, proof } = await service(reached.store)
      const tokens = jwtTokens(totp, { authenticate: async () => null })
      const { access, refresh } = await tokens.issueTokens(proof)
      const { sessionId } = (await tokens.verifyAccessToken(`Bearer ${access}`)) ?? {}
      reached.way.cutAt(raising, 'before')

      await assert.rejects(tokens.raiseSession(proof, String(sessionId)), isUnavailable)

      await isBack()
      await tokens.verifyToken(refresh)
      assert.ok(await tokens.raiseSession(proof, String(sessionId)))
      await assert.rejects(tokens.verifyToken(refresh), { code: 'invalid_token' })
    })

    test('a database that accepts connections and never answers is unavailable after ten seconds', async () => {
      const { totp, code } = await service(reached.store)
      reached.way.fallSilent()
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      try {
        const refused = assert.rejects(totp.verifyTotpCode('ann', code), isUnavailable)
        await vi.advanceTimersByTimeAsync(10_000)
        await refused
      } finally {
        vi.useRealTimers()
      }

      await reached.way.close()
      await reached.way.open()
      await isBack()
      assert.equal((await totp.verifyTotpCode('ann', code)).userId, 'ann')
    })

    test('a connection that breaks in its roll-back is not used again, and one that was rolled back is', async () => {
      const { way, store, reusable } = reached
      await service(store)
      const { generation } = await store.getUser('ann')
      const failing = () => store.replaceBackupCodes('ann', backupCodes(['twice', 'twice']), generation)
      const before = reusable()
      way.cutAt('ROLLBACK', 'before')

      await assert.rejects(failing())

      assert.equal(reusable(), before)
      await isBack()
      const whole = reusable()
      await assert.rejects(failing())
      assert.equal(reusable(), whole + 1)
    })

    test('a pool without a free connection is unavailable, and works again when one is free', async () => {
      const { code, clock } = await service(reached.store)
      const { store, release } = await reached.exhausted()
      const busy = await serviceOf({ ...store, keepKeyCheck: reached.store.keepKeyCheck }, encryptionKey, clock.now)

      await assert.rejects(busy.verifyTotpCode('ann', code), isUnavailable)
      await assert.rejects(busy.startLogin('ann'), isUnavailable)

      await release()
      assert.equal((await busy.verifyTotpCode('ann', code)).userId, 'ann')
      await release()
    })
  })
}

describe.skipIf(!services.postgres)('a PostgreSQL server whose machine is gone without a word', () => {
  test('is given up after twelve seconds, and the pool connects anew', async () => {
    const { url, drop } = await postgresPool()
    const way = await wayTo(url)
    const pool = poolAt(way.url, { max: 4 })
    const store = postgresStore(pool)
    await store.migrate()
    const { totp, code } = await enrolled(store)
    const token = await totp.generateChallengeToken('ann')
    await Promise.all(Array.from({ length: 4 }, () => pool.query('SELECT pg_sleep(0.05)')))
    assert.equal(pool.idleCount, 4)
    way.forsake()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const statements = [totp.answerChallenge(token, { method: 'totp', code }), totp.verifyTotpCode('ann', code)]
      const transactions = [totp.disableTotp('ann'), totp.rotateBackupCodes('ann')]
      const refused = [...statements, ...transactions].map((call) => assert.rejects(call, isUnavailable))
      await vi.advanceTimersByTimeAsync(12_000)
      await Promise.all(refused)
    } finally {
      vi.useRealTimers()
    }

    assert.equal((await totp.answerChallenge(token, { method: 'totp', code })).userId, 'ann')
    assert.equal(await totp.isTotpEnabled('ann'), true)
    await until(async () => pool.idleCount === pool.totalCount)
    await pool.end()
    await way.close()
    await drop()
  })
})

describe.skipIf(!services.postgres)('transactions that PostgreSQL undoes', () => {
  test('a deadlock with the host is repeated, and the change is made once', async () => {
    const { pool, url, drop } = await postgresPool()
    await postgresStore(pool).migrate()
    const user = await enroll(postgresStore(pool))
    // Who looks for a deadlock first is the one undone: ours.
    const own = poolAt(url, { max: 1, options: '-c deadlock_timeout=500ms' })
    const host = await pool.connect()
    await host.query("SET deadlock_timeout = '15s'")
    await host.query('BEGIN')
    await host.query('SELECT 1 FROM totp_authenticator FOR UPDATE')
    let transactions = 0
    own.on('acquire', () => transactions++)
    const waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    const { userId, generation } = user
    const removed = postgresStore(own).removeFactors({
      limits,
      token: null,
      userId,
      generation,
      keepFamilyId: null,
      now: noon,
    })
    await until(async () => (await pool.query(waiting)).rows.length > 0)
    await host.query('SELECT 1 FROM totp_user FOR UPDATE')
    await host.query('COMMIT')

    assert.deepEqual(await removed, { outcome: 'removed' })
    // On a machine that is busy the host may hold its lock long enough for a second one.
    assert.ok(transactions >= 2)
    assert.equal((await postgresStore(pool).getUser('ann')).generation, generation + 1)
    host.release()
    await own.end()
    await drop()
  })

  test('what is undone again and again is an error after ten repetitions, and the connection is as good as before', async () => {
    const { pool, url, drop } = await postgresPool()
    const own = poolAt(url, { max: 1 })
    const store = postgresStore(own)
    await store.migrate()
    await pool.query('CREATE SEQUENCE tries')
    await pool.query(`CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM nextval('tries'); RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END $$`)
    for (const table of ['totp_user', 'totp_refresh_family']) {
      await pool.query(`CREATE TRIGGER undoing BEFORE INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION undo()`)
    }
    const connection = async () => (await own.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
    const before = await connection()

    // A sequence remembers what was rolled back.
    const tries = async () => Number((await pool.query('SELECT last_value FROM tries')).rows[0].last_value)

    await assert.rejects(store.raiseGeneration('ann', noon), /undone/)
    assert.equal(await tries(), 11)
    assert.equal(await connection(), before)

    await assert.rejects(begin(store, 'family'), /undone/)
    assert.equal(await tries(), 22)
    await own.end()
    await drop()
  })

  test('where the host makes transactions serializable, racing settlements are repeated and one succeeds', async () => {
    const { url, drop } = await postgresPool()
    const own = poolAt(url, { max: 4, options: '-c default_transaction_isolation=serializable' })
    const store = postgresStore(own)
    await store.migrate()
    const user = await enroll(store)

    for (let step = firstStep + 1; step <= firstStep + 5; step++) {
      const spent = await Promise.all(Array.from({ length: 4 }, () => store.settleAttempt(byStep(user, step))))
      assert.deepEqual(spent.map(({ outcome }) => outcome).sort(), [
        'spent',
        'spent_before',
        'spent_before',
        'spent_before',
      ])
    }

    await own.end()
    await drop()
  })
})

describe.skipIf(!services.mysql)('transactions that MariaDB undoes', () => {
  test('a deadlock with the host is repeated, and the change is made once', async () => {
    const { pool, drop } = await mysqlPool()
    const store = mysqlStore(pool)
    await store.migrate()
    const { userId, generation } = await enroll(store)
    const host = await pool.getConnection()
    // InnoDB undoes the transaction that has changed fewer rows.
    await host.query('CREATE TABLE host_row (n INT) ENGINE = InnoDB')
    await host.query('BEGIN')
    await host.query('INSERT INTO host_row SELECT seq FROM seq_1_to_500')
    await host.query('SELECT 1 FROM totp_authenticator FOR UPDATE')
    let begun = 0
    pool.on('acquire', () => begun++)
    const waiting = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"

    const removed = store.removeFactors({ limits, token: null, userId, generation, keepFamilyId: null, now: noon })
    // This view is made anew only when nobody has looked for 100 ms.
    await until(async () => ((await host.query(waiting))[0] as unknown[]).length > 0, 150)
    await host.query('SELECT 1 FROM totp_user FOR UPDATE')
    await host.query('COMMIT')

    assert.deepEqual(await removed, { outcome: 'removed' })
    assert.ok(begun >= 2)
    assert.equal((await store.getUser('ann')).generation, generation + 1)
    host.release()
    await drop()
  })
})

for (const [name, connect] of [
  [
    'redis',
    async (url: string) => {
      const client = createClient({ url, disableOfflineQueue: true, socket: { reconnectStrategy: 20 } })
      client.on('error', () => undefined)
      await client.connect()
      return { client, end: () => client.destroy() }
    },
  ],
  [
    'ioredis',
    async (url: string) => {
      const client = new Redis(url, { enableOfflineQueue: false, lazyConnect: true, retryStrategy: () => 20 })
      client.on('error', () => undefined)
      await client.connect()
      return { client, end: () => client.disconnect() }
    },
  ],
] as const) {
  describe.skipIf(!services.redis)(`Redis gone (${name})`, () => {
    test('nobody passes without Redis, nothing is spent, and all is well when it is back', async () => {
      const way = await wayTo(redisUrl)
      const { client, end } = await connect(way.url)
      const prefix = `totp-test:faults:${process.pid}:${name}:${Date.now()}:`
      const store = withRedis(memoryStore(), client as Redis, { prefix })
      const { totp, code, backupCodes } = await enrolled(store)
      const token = await totp.generateChallengeToken('ann')
      await way.close()

      for (const typed of [
        { method: 'totp', code },
        { method: 'backup_code', code: backupCodes[0] ?? '' },
      ] as const) {
        await assert.rejects(totp.answerChallenge(token, typed), isUnavailable)
      }
      await assert.rejects(totp.verifyChallengeToken(token), isUnavailable)
      await assert.rejects(store.countCall({ keyDigest: 'caller', windowSeconds: 60, now: noon }))

      await way.open()
      await until(() => totp.verifyChallengeToken(token).then(Boolean, () => false))
      assert.equal((await totp.answerChallenge(token, { method: 'totp', code })).userId, 'ann')
      await assert.rejects(totp.answerChallenge(token, { method: 'totp', code }), { code: 'challenge_invalid' })
      end()
      await way.close()
    })
  })
}

describe('SQLite', () => {
  test('a database that may not be written to lets nobody in, and loses nothing', async () => {
    await onSqlite(async (store, execute) => {
      const { totp, code, backupCodes } = await enrolled(store)
      const token = await totp.generateChallengeToken('ann')
      const before = await totp.getStatus('ann')
      execute('PRAGMA query_only = 1')

      await assert.rejects(totp.answerChallenge(token, { method: 'totp', code }), isUnavailable)
      await assert.rejects(totp.verifyBackupCode('ann', backupCodes[0] ?? ''), isUnavailable)
      await assert.rejects(totp.disableTotp('ann'), isUnavailable)

      execute('PRAGMA query_only = 0')
      assert.deepEqual(await totp.getStatus('ann'), before)
      assert.equal((await totp.answerChallenge(token, { method: 'totp', code })).userId, 'ann')
    })
  })

  test('a full disk lets nobody enroll by halves: the change is made whole when there is room', async () => {
    await onSqlite(async (store, execute) => {
      const { totp, code, phone, clock } = await enrolled(store)
      const before = await totp.listBackupCodes('ann')
      // As many pages as there are: the least that SQLite takes.
      execute('PRAGMA max_page_count = 1')

      const codes = Array.from({ length: 50 }, (_, n) => `a-code-of-the-host-${n}-${'x'.repeat(40)}`)
      await assert.rejects(totp.storeBackupCodes('ann', codes), isUnavailable)

      assert.deepEqual(await totp.listBackupCodes('ann'), before)
      execute('PRAGMA max_page_count = 1000000')
      await totp.storeBackupCodes('ann', codes)
      assert.equal((await totp.verifyTotpCode('ann', code)).userId, 'ann')
      clock.advance(30)
      assert.equal((await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))).userId, 'ann')
    })
  })
})

describe('a store that does not answer', () => {
  test('is told of when it answers after its request was refused: it was done all the same', async () => {
    let answer: () => void = () => undefined
    const slow: TotpStore = {
      ...memoryStore(),
      clearFailures: () =>
        new Promise((resolve) => {
          answer = resolve
        }),
    }
    const errors: unknown[] = []
    const options = { issuer: 'Acme', encryptionKey: generateFernetKey(), store: slow }
    const totp = await createTotp({ ...options, onError: (error) => errors.push(error) })
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const refused = assert.rejects(totp.unlock('ann'), isUnavailable)
      await vi.advanceTimersByTimeAsync(10_000)
      await refused
      assert.deepEqual(errors, [])
      answer()
      await vi.advanceTimersByTimeAsync(1)
    } finally {
      vi.useRealTimers()
    }
    assert.deepEqual(errors.map(String), ['Error: the store completed clearFailures after its request was refused'])
  })

  test('is waited for ten seconds and not longer, and what it answers later counts for nothing', async () => {
    const store = memoryStore()
    let answer: (late: unknown) => void = () => undefined
    const silent: TotpStore = {
      ...store,
      settleAttempt: () =>
        new Promise((resolve) => {
          answer = resolve as typeof answer
        }),
    }
    const { totp, code } = await enrolled(silent)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      let settled = false
      const proof = totp.verifyTotpCode('ann', code).finally(() => {
        settled = true
      })
      const refused = assert.rejects(proof, isUnavailable)
      await vi.advanceTimersByTimeAsync(9_999)
      assert.equal(settled, false)
      await vi.advanceTimersByTimeAsync(1)
      await refused
      answer({ outcome: 'spent', backupCodesRemaining: 10 })
      await totp.getStatus('ann')
      assert.equal(vi.getTimerCount(), 0)
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('a clock set back', () => {
  test('spent steps stay spent', async () => {
    const { totp, clock, phone } = await enrolled(memoryStore())
    clock.advance(3600)
    await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))

    clock.advance(-3600)
    for (const ahead of [-30, 0, 30]) {
      await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now() + ahead)), { code: 'code_already_used' })
    }
  })

  test('a delay stays, and does not become shorter', async () => {
    const { totp, clock, phone } = await enrolled(memoryStore())
    for (let n = 0; n < 5; n++) await assert.rejects(totp.verifyTotpCode('ann', '000000'), { code: 'invalid_code' })
    const refusal = { code: 'too_many_attempts' }
    await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now())), { ...refusal, retryAfterSeconds: 30 })

    clock.advance(-600)

    const expected = { ...refusal, retryAfterSeconds: 630 }
    await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now())), expected)
  })
})
