import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { afterAll, beforeAll, beforeEach, describe, onTestFinished, test } from 'vitest'
import type { Dialect } from '../src/store/sql/dialect.ts'
import { currentTables, migrations } from '../src/store/sql/migrations.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import type { FactorStatus, Settled, TotpStore } from '../src/store/store.ts'
import {
  backupCodes,
  byCode,
  byStep,
  challengeOf,
  device,
  enroll,
  firstStep,
  limits,
  noon,
  pending,
  rotate,
  tally,
  wrong,
} from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

const RACER = fileURLToPath(new URL('processes/racer.mjs', import.meta.url))
const DIST = fileURLToPath(new URL('../dist', import.meta.url))

/** An empty database of a test's own. */
interface Database {
  url: string
  /** A store on it in this process. */
  open(): Promise<TotpStore>
  run(sql: string): Promise<unknown>
  drop(): Promise<void>
}

/** `empty`: databases that ten processes start on, because only now and then two are at the same point of the start. */
const databases: { name: string; dialect: Dialect; isThere: boolean; empty: number; make(): Promise<Database> }[] = [
  {
    name: 'SQLite',
    dialect: 'sqlite',
    isThere: true,
    empty: 20,
    async make() {
      const directory = await mkdtemp(join(tmpdir(), 'totp-kit-processes-'))
      const path = join(directory, 'totp.db')
      return {
        url: `sqlite:${path}`,
        open: () => sqliteStore(path),
        async run(sql) {
          const database = await openSqlite(path)
          try {
            return sql.startsWith('SELECT') ? database.prepare(sql).all({}) : database.exec(sql)
          } finally {
            database.close()
          }
        },
        drop: () => rm(directory, { recursive: true }),
      }
    },
  },
  {
    name: 'PostgreSQL',
    dialect: 'postgres',
    isThere: services.postgres,
    empty: 3,
    async make() {
      const { pool, url, drop } = await postgresPool(1)
      return { url, open: async () => postgresStore(pool), run: async (sql) => (await pool.query(sql)).rows, drop }
    },
  },
  {
    name: 'MariaDB',
    dialect: 'mysql',
    isThere: services.mysql,
    empty: 3,
    async make() {
      const { pool, url, drop } = await mysqlPool(1)
      return { url, open: async () => mysqlStore(pool), run: async (sql) => (await pool.query(sql))[0], drop }
    },
  },
]

describe.for(databases)('$name', ({ isThere, dialect, empty, make }) => {
  describe.skipIf(!isThere)('processes that race', () => {
    let database: Database
    let store: TotpStore
    let racers: Racer[] = []
    beforeAll(async () => {
      database = await make()
      store = await database.open()
      await store.migrate()
      racers = await Promise.all(numbers(10).map(() => startRacer(database.url)))
    })
    beforeEach(async () => {
      for (const { name } of currentTables) await database.run(`DELETE FROM ${tablesOf()[name]}`)
    })
    afterAll(async () => {
      await Promise.all(racers.map(({ stop }) => stop()))
      await store.close()
      await database.drop()
    })

    /** Has four processes make their calls at the same time, and gives the answers of each. */
    const inFourProcesses = <T>(callsOf: (racer: number) => Call[]) => race<T>(racers.slice(0, 4), null, callsOf)

    test('a time step is spent exactly once, however many processes race', async () => {
      const user = await enroll(store)

      const answers = await inFourProcesses<Settled>(() =>
        numbers(50).map((n) => ['settleAttempt', byStep(user, firstStep + 1 + n)]),
      )

      for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { spent: 1, spent_before: 3 })
    })

    test('a backup code is spent exactly once, however many processes race', async () => {
      const codes = numbers(50).map((n) => `code ${n}`)
      const user = await enroll(store, { codes })

      const answers = await inFourProcesses<Settled>(() => codes.map((code) => ['settleAttempt', byCode(user, [code])]))

      for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { spent: 1, wrong: 3 })
      const used = await store.listBackupCodes(user.userId)
      assert.ok(used.every(({ usedAt }) => usedAt === noon))
    })

    test('backup codes that differ are all spent, though the processes spend them at the same time', async () => {
      const codesOf = (racer: number) => numbers(12).map((n) => `code ${n} of process ${racer}`)
      const user = await enroll(store, { codes: numbers(4).flatMap(codesOf) })

      const answers = await inFourProcesses<Settled>((racer) =>
        codesOf(racer).map((code) => ['settleAttempt', byCode(user, [code])]),
      )

      assert.deepEqual(tally(answers.flat()), { spent: 48 })
      const listed = await store.listBackupCodes(user.userId)
      assert.ok(listed.every(({ usedAt }) => usedAt === noon))
    })

    test('a challenge is burnt exactly once, though each process has a good code of its own', async () => {
      const codeOf = (racer: number, round: number) => `code ${round} of process ${racer}`
      const codes = numbers(50).flatMap((round) => numbers(4).map((racer) => codeOf(racer, round)))
      const user = await enroll(store, { codes })

      const answers = await inFourProcesses<Settled>((racer) =>
        numbers(50).map((round) => {
          const token = challengeOf(user, `challenge ${round}`)
          return ['settleAttempt', byCode(user, [codeOf(racer, round)], { token })]
        }),
      )

      for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { spent: 1, stale: 3 })
      const listed = await store.listBackupCodes(user.userId)
      assert.equal(listed.filter(({ usedAt }) => usedAt !== null).length, 50, 'and one code is used for each')
    })

    test('of 200 wrong codes in four processes five are judged', async () => {
      await enroll(store)

      const answers = await inFourProcesses<{ outcome: string }>(() =>
        numbers(50).map(() => ['settleAttempt', wrong()]),
      )

      assert.deepEqual(tally(answers.flat()), { wrong: 5, delayed: 195 })
    })

    test('a pending authenticator is activated exactly once, however many processes race', async () => {
      for (const n of numbers(50)) await store.putPending(`user ${n}`, pending(`phone ${n}`), 0, limits)

      const answers = await inFourProcesses<string>(() =>
        numbers(50).map((n) => ['activatePending', activationOf(`user ${n}`, `phone ${n}`, 0)]),
      )

      for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { first: 1, refused: 3 })
    })

    test('no process sees a moment without a working factor while another one replaces it', async () => {
      const { authenticatorId, generation } = await enroll(store)
      const replacements = numbers(60).flatMap((n): Call[] => [
        ['putPending', 'ann', pending(`phone ${n + 1}`), generation + n, limits],
        ['activatePending', activationOf('ann', `phone ${n + 1}`, generation + n)],
      ])
      const watch = numbers(300).map((): Call => ['getStatus', 'ann', noon, limits])

      const [replaced, ...seen] = await inFourProcesses<unknown>((racer) => (racer === 0 ? replacements : watch))

      const answered = tally(replaced as (boolean | { outcome: string })[])
      assert.deepEqual(answered, { true: 60, replaced: 60 })
      for (const { user, authenticators } of seen.flat() as FactorStatus[]) {
        const n = user.generation - generation
        assert.deepEqual(
          authenticators.map(({ id }) => id),
          [n === 0 ? authenticatorId : `phone ${n}`],
        )
      }
    })

    test('a backup code is spent before the codes are rotated, or never, and no rotation makes a used code new', async () => {
      const users = await Promise.all(
        numbers(30).map((n) => enroll(store, { userId: `user ${n}`, codes: [`old ${n}`] })),
      )

      const [rotated, ...answers] = await inFourProcesses<Settled | boolean>((racer) =>
        users.flatMap((user, n): Call[] => {
          if (racer === 0) return [['replaceBackupCodes', user.userId, backupCodes([`new ${n}`]), user.generation]]
          return [
            ['settleAttempt', byCode(user, [`old ${n}`])],
            ['settleAttempt', byCode(user, [`new ${n}`])],
          ]
        }),
      )

      assert.deepEqual(tally(rotated ?? []), { true: 30 })
      for (const n of numbers(30)) {
        const { spent: old = 0 } = tally(ofRound(answers, 2 * n))
        const { spent: renewed = 0 } = tally(ofRound(answers, 2 * n + 1))
        assert.ok(old <= 1 && renewed <= 1, `${old} and ${renewed} times`)
        const listed = await store.listBackupCodes(`user ${n}`)
        assert.deepEqual(listed, [{ sealedCode: `sealed new ${n}`, usedAt: renewed === 1 ? noon : null }])
      }
    })

    test('a refresh token is rotated exactly once, however many processes race, and its family ends', async () => {
      for (const n of numbers(50)) {
        await store.openFamily({ id: `f${n}`, userId: 'ann', tokenId: 'first', expiresAt: noon + 60 }, 0, noon)
      }

      const answers = await inFourProcesses<string>((racer) =>
        numbers(50).map((n) => {
          const rotation = {
            familyId: `f${n}`,
            tokenId: 'first',
            newTokenId: `of ${racer}`,
            expiresAt: noon + 60,
            now: noon,
          }
          return ['rotateFamily', rotation]
        }),
      )

      for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { rotated: 1, dead: 3 })
      assert.equal(await rotate(store, 'f0', { tokenId: 'of 0' }), 'dead')
    })

    test('of ten processes that start at once on an empty database, all find one schema and one canary', async () => {
      for (const n of numbers(empty)) {
        const other = await make()
        const answers = await race<string>(racers, other.url, (racer) => [
          ['migrate'],
          ['keepKeyCheck', `${n} of ${racer}`],
        ])

        assert.equal(new Set(answers.map(([, canary]) => canary)).size, 1)
        const versions = (await other.run('SELECT version FROM totp_migration WHERE version > 0')) as unknown[]
        assert.equal(versions.length, migrations.length)
        await other.drop()
      }
    })

    test('of ten processes that start at once on the tables of version 1, one brings them up to date', async () => {
      const script = await readFile(new URL(`version-1/${dialect}.sql`, import.meta.url), 'utf8')
      for (const n of numbers(empty)) {
        const other = await make()
        for (const statement of script.split(';\n').filter((text) => text.trim() !== '')) await other.run(statement)
        const answers = await race<boolean>(racers, other.url, (racer) => [
          ['migrate'],
          ['keepTrustedDevice', device(`device ${n} of ${racer}`), 0],
        ])

        assert.deepEqual(tally(answers.map(([, kept]) => kept as boolean)), { true: 10 })
        const versions = (await other.run('SELECT version FROM totp_migration')) as unknown[]
        assert.equal(versions.length, migrations.length)
        await other.drop()
      }
    })
  })
})

test('where there is no SQLite driver, the error says which to install', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-driver-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  await cp(DIST, join(directory, 'dist'), { recursive: true })
  const module = JSON.stringify(join(directory, 'dist/store/sqlite.js'))
  const script = `import(${module}).then((sqlite) => sqlite.sqliteStore(':memory:')).catch((e) => console.log(e.message))`
  // Node 22.13 and later have a driver built in, which this flag takes out; Node 20 knows neither.
  const flags = process.allowedNodeEnvironmentFlags.has('--experimental-sqlite') ? ['--no-experimental-sqlite'] : []

  const { stdout } = await promisify(execFile)(process.execPath, [...flags, '-e', script], { cwd: directory })

  assert.equal(stdout, 'no SQLite driver found: use Node 22.13 or later, or install better-sqlite3 or libsql\n')
})

type Call = [operation: keyof TotpStore, ...parameters: unknown[]]

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

/** What the four processes were answered in their n-th calls. */
const ofRound = <T>(answers: T[][], n: number): T[] => answers.map((ofRacer) => ofRacer[n] as T)

const activationOf = (userId: string, authenticatorId: string, generation: number) => ({
  userId,
  authenticatorId,
  generation,
  step: firstStep,
  driftSteps: 0,
  maxAuthenticators: 1,
  backupCodes: null,
  keepFamilyId: null,
  isCounted: false,
  now: noon,
  limits,
})

interface Racer {
  /** @param calls - on the database of its start, or on another one that it opens first */
  go(calls: { url: string | null; calls: Call[] }): Promise<unknown[]>
  stop(): Promise<void>
}

async function race<T>(racers: Racer[], url: string | null, callsOf: (racer: number) => Call[]): Promise<T[][]> {
  return (await Promise.all(racers.map(({ go }, racer) => go({ url, calls: callsOf(racer) })))) as T[][]
}

async function startRacer(url: string): Promise<Racer> {
  const racer = spawn(process.execPath, [RACER, url], { stdio: ['pipe', 'pipe', 'pipe'] })
  let complaints = ''
  racer.stderr.on('data', (chunk) => {
    complaints += chunk
  })
  const lines = createInterface({ input: racer.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next()
    if (done) throw new Error(`a process stopped before it answered: ${complaints}`)
    return value
  }
  assert.equal(await next(), 'ready')
  const exited = once(racer, 'exit')
  return {
    async go(calls) {
      racer.stdin.write(`${JSON.stringify(calls)}\n`)
      return JSON.parse(await next()) as unknown[]
    },
    async stop() {
      racer.kill()
      await exited
    },
  }
}
