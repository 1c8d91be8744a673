import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { afterEach, beforeEach, test } from 'vitest'
import { migrations } from '../src/store/sql/migrations.ts'
import type { FactorStatus, Spent, TotpStore } from '../src/store/store.ts'
import {
  attempt,
  byCode,
  byStep,
  challengeOf,
  device,
  enrol,
  firstStep,
  limits,
  noon,
  pending,
  rotate,
  tally,
} from '../src/testing/store-fixtures.ts'

const RACER = fileURLToPath(new URL('processes/racer.mjs', import.meta.url))
const DIST = fileURLToPath(new URL('../dist', import.meta.url))

let directory: string
let path: string
const running: Racer[] = []
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'totp-kit-processes-'))
  path = join(directory, 'totp.db')
})
afterEach(async () => {
  for (const { process } of running.splice(0)) process.kill()
  await rm(directory, { recursive: true })
})

test('a time step is spent exactly once, however many processes race', async () => {
  const user = await arrange((store) => enrol(store))

  const answers = await inFourProcesses<Spent>(() => numbers(50).map((n) => ['spend', byStep(user, firstStep + 1 + n)]))

  for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { spent: 1, refused: 3 })
})

test('a backup code is spent exactly once, however many processes race', async () => {
  const codes = numbers(50).map((n) => `code ${n}`)
  const user = await arrange((store) => enrol(store, { codes }))

  const answers = await inFourProcesses<Spent>(() => codes.map((code) => ['spend', byCode(user, [code])]))

  for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { spent: 1, refused: 3 })
  const used = await arrange((store) => store.listBackupCodes(user.userId))
  assert.ok(used.every(({ usedAt }) => usedAt === noon))
})

test('a challenge is burnt exactly once, though each process has a good code of its own', async () => {
  const codeOf = (racer: number, round: number) => `code ${round} of process ${racer}`
  const codes = numbers(50).flatMap((round) => numbers(4).map((racer) => codeOf(racer, round)))
  const user = await arrange((store) => enrol(store, { codes }))

  const answers = await inFourProcesses<Spent>((racer) =>
    numbers(50).map((round) => {
      const challenge = challengeOf(user, `challenge ${round}`)
      return ['spend', byCode(user, [codeOf(racer, round)], { challenge })]
    }),
  )

  for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { spent: 1, stale: 3 })
  const listed = await arrange((store) => store.listBackupCodes(user.userId))
  assert.equal(listed.filter(({ usedAt }) => usedAt !== null).length, 50, 'and one code is used for each')
})

test('of 200 attempts in four processes five are judged', async () => {
  await arrange((store) => enrol(store))

  const answers = await inFourProcesses<{ outcome: string }>(() => numbers(50).map(() => ['reserveAttempt', attempt()]))

  assert.deepEqual(tally(answers.flat()), { reserved: 5, delayed: 195 })
})

test('a pending authenticator is activated exactly once, however many processes race', async () => {
  await arrange(async (store) => {
    for (const n of numbers(50)) await store.putPending(`user ${n}`, pending(`phone ${n}`), 0)
  })

  const answers = await inFourProcesses<string>(() =>
    numbers(50).map((n) => ['activatePending', activationOf(`user ${n}`, `phone ${n}`, 0)]),
  )

  for (const n of numbers(50)) assert.deepEqual(tally(ofRound(answers, n)), { first: 1, refused: 3 })
})

test('no process sees a moment without a working factor while another one replaces it', async () => {
  const { authenticatorId, generation } = await arrange((store) => enrol(store))
  const replacements = numbers(60).flatMap((n): Call[] => [
    ['putPending', 'ann', pending(`phone ${n + 1}`), generation + n],
    ['activatePending', activationOf('ann', `phone ${n + 1}`, generation + n)],
  ])
  const watch = numbers(300).map((): Call => ['getStatus', 'ann', noon, limits])

  const [replaced, ...seen] = await inFourProcesses<unknown>((racer) => (racer === 0 ? replacements : watch))

  assert.ok(replaced?.every((answer) => answer === true || answer === 'replaced'))
  for (const { user, authenticators } of seen.flat() as FactorStatus[]) {
    const n = user.generation - generation
    assert.deepEqual(
      authenticators.map(({ id }) => id),
      [n === 0 ? authenticatorId : `phone ${n}`],
    )
  }
})

test('a refresh token is rotated exactly once, however many processes race, and its family ends', async () => {
  await arrange(async (store) => {
    for (const n of numbers(50)) {
      await store.openFamily({ id: `f${n}`, userId: 'ann', tokenId: 'first', expiresAt: noon + 60 }, 0, noon)
    }
  })

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
  assert.equal(await arrange((store) => rotate(store, 'f0', { tokenId: 'of 0' })), 'dead')
})

test('processes that open a new file at once make one schema and keep one canary', async () => {
  const racers = await startRacers()

  // Fifty files, because only now and then two processes are at the same point of the start.
  for (const n of numbers(50)) {
    const newFile = join(directory, `${n}.db`)
    const answers = await race<string>(racers, newFile, (racer) => [['keepCanary', `canary of ${racer}`]])

    assert.equal(new Set(answers.flat()).size, 1)
    const database = await openSqlite(newFile)
    assert.equal(database.prepare('SELECT version FROM totp_migration').all({}).length, migrations.length)
    database.close()
  }
})

test('processes that open a file of version 1 at once bring it up to date once', async () => {
  const racers = await startRacers()
  const script = await readFile(new URL('version-1/sqlite.sql', import.meta.url), 'utf8')

  for (const n of numbers(20)) {
    const database = await openSqlite(join(directory, `${n}.db`))
    database.exec(script)
    const answers = await race<boolean>(racers, join(directory, `${n}.db`), (racer) => [
      ['keepTrustedDevice', device(`device ${racer}`), 0],
    ])

    assert.deepEqual(tally(answers.flat()), { true: 4 })
    assert.equal(database.prepare('SELECT version FROM totp_migration').all({}).length, migrations.length)
    database.close()
  }
})

test('where there is no SQLite driver, the error says which to install', async () => {
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
  now: noon,
})

async function arrange<T>(work: (store: TotpStore) => Promise<T>): Promise<T> {
  const store = await sqliteStore(path)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

/** Has four processes, with the file open, make their calls at the same time, and gives the answers of each. */
async function inFourProcesses<T>(callsOf: (racer: number) => Call[]): Promise<T[][]> {
  return race<T>(await startRacers(path), path, callsOf)
}

interface Racer {
  process: ChildProcess
  go(calls: { path: string; calls: Call[] }): Promise<unknown[]>
}

async function race<T>(racers: Racer[], path: string, callsOf: (racer: number) => Call[]): Promise<T[][]> {
  return (await Promise.all(racers.map(({ go }, racer) => go({ path, calls: callsOf(racer) })))) as T[][]
}

async function startRacers(...opened: [path: string] | []): Promise<Racer[]> {
  const started = await Promise.all(numbers(4).map(() => startRacer(opened)))
  running.push(...started)
  return started
}

async function startRacer(opened: string[]): Promise<Racer> {
  const racer = spawn(process.execPath, [RACER, ...opened], { stdio: ['pipe', 'pipe', 'pipe'] })
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
  return {
    process: racer,
    async go(calls) {
      racer.stdin.write(`${JSON.stringify(calls)}\n`)
      return JSON.parse(await next()) as unknown[]
    },
  }
}
