import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { openSqlite } from 'totp-kit/store/sqlite'
import { describe, test } from 'vitest'
import { type EnrolledPerson, enrollBy, type Host, hostOptions, startHost, wrongCodeAt } from './hosts/hosts.ts'
import { ownPostgres } from './own-servers.ts'

/*
 * The host, or its database, is killed (SIGKILL) again and again while people verify codes. After each kill everything that
 * was told is held against the database: no verdict was told whose write is missing, no code works twice, and nobody waits
 * who should not. `CRASH_KILLS=200 npx vitest run test/crash.test.ts` for more of it.
 */
const KILLS = Number(process.env.CRASH_KILLS ?? 8)
const PEOPLE = 8
const START = 1_800_000_000
/** Far from every limit, so that only what is missing or counted too often is found. */
const failures = { unsafe: true, delayAfter: 100, lockAfter: 1000, maxPerPeriod: 100_000, periodDays: 365 }

/** What the database says of one user. */
interface Written {
  lastStep: number
  usedCodes: number
  /** In all: a success does not take them away. */
  failures: Record<'totp' | 'backup_code', number>
}

interface Ground {
  database: string
  /** Kills the one or the other, and starts it again. */
  kill(): Promise<void>
  host(): Host
  written(userId: string): Promise<Written>
  remove(): Promise<unknown>
}

const WRITTEN = {
  step: "SELECT max(last_step) AS n FROM totp_authenticator WHERE user_id = 'USER'",
  codes: "SELECT count(*) AS n FROM totp_backup_code WHERE user_id = 'USER' AND used_at IS NOT NULL",
  totp: "SELECT sum(in_period + in_previous_period) AS n FROM totp_failure WHERE user_id = 'USER' AND method = 'totp'",
  backup_code: `SELECT sum(in_period + in_previous_period) AS n FROM totp_failure
    WHERE user_id = 'USER' AND method = 'backup_code'`,
}

async function writtenBy(ask: (sql: string) => Promise<unknown>, userId: string): Promise<Written> {
  const number = async (sql: string) => Number((await ask(sql.replace('USER', userId))) ?? 0)
  return {
    lastStep: await number(WRITTEN.step),
    usedCodes: await number(WRITTEN.codes),
    failures: { totp: await number(WRITTEN.totp), backup_code: await number(WRITTEN.backup_code) },
  }
}

async function hostOnSqlite(): Promise<Ground> {
  const folder = await mkdtemp(join(tmpdir(), 'totp-kit-crash-'))
  const database = join(folder, 'app.db')
  const options = hostOptions(database, failures)
  let host = await startHost(options)
  return {
    database,
    host: () => host,
    async kill() {
      await host.kill()
      host = await startHost(options)
    },
    async written(userId) {
      const connection = await openSqlite(database)
      const ask = async (sql: string) => (connection.prepare(sql).all({})[0] as { n: unknown }).n
      return writtenBy(ask, userId).finally(() => connection.close())
    },
    async remove() {
      await host.end()
      await rm(folder, { recursive: true })
    },
  }
}

async function databaseOfPostgres(): Promise<Ground> {
  assert.ok(ownPostgres)
  const server = await ownPostgres()
  const host = await startHost(hostOptions(server.url, failures))
  return {
    database: server.url,
    host: () => host,
    async kill() {
      await server.kill()
      await server.start()
    },
    async written(userId) {
      const client = new pg.Client({ connectionString: server.url })
      await client.connect()
      const ask = async (sql: string) => (await client.query(sql)).rows[0]?.n
      return writtenBy(ask, userId).finally(() => client.end())
    },
    async remove() {
      await host.end()
      await server.remove()
    },
  }
}

describe.each([
  { name: 'a host on SQLite', make: hostOnSqlite, isThere: true },
  { name: 'the PostgreSQL server of a host', make: databaseOfPostgres, isThere: ownPostgres !== null },
])('$name is killed at any moment', ({ make, isThere }) => {
  test.skipIf(!isThere)(
    'nothing that was told is missing, no code works twice, and nobody waits who should not',
    { timeout: 30_000 + KILLS * 5000 },
    async () => {
      const ground = await make()
      try {
        const people = await Promise.all(
          Array.from({ length: PEOPLE }, async (_, n) => personOf(await enrollBy(ground.host(), `user-${n}`, START))),
        )
        for (let kill = 0; kill < KILLS; kill++) {
          let isOver = false
          const living = people.map(async (person) => {
            while (!isOver) await person.act(ground.host())
          })
          await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 200))
          isOver = true
          await ground.kill()
          await Promise.all(living)
          for (const person of people) await person.check(ground)
        }
        const told = people.reduce((sum, person) => sum + person.told(), 0)
        assert.ok(told > KILLS * 5, `only ${told} verdicts were told`)
      } finally {
        await ground.remove()
      }
    },
  )
})

function personOf({ userId, phone, backupCodes }: EnrolledPerson) {
  let at = START
  let told = 0
  /** Attempts whose answer was lost: they may have been written or not. */
  const lost = { totp: 0, backup_code: 0 }
  const wrong = { totp: 0, backup_code: 0 }
  const accepted = { step: Math.floor(START / 30), codes: 0 }
  /** Codes that were accepted since the last kill. */
  const spent: { call: 'totp' | 'backup_code'; code: string; at: number }[] = []

  const ask = async (host: Host, call: 'totp' | 'backup_code', code: string): Promise<string> => {
    const { outcome } = await host.ask({ call, userId, code, at }).catch(() => ({ outcome: 'lost' }))
    // What an answer of 503 has written is as unknown as that of an answer that never came.
    if (outcome === 'lost' || outcome === 'unavailable') lost[call]++
    else told++
    return outcome
  }

  return {
    told: () => told,
    async act(host: Host): Promise<void> {
      at += 30
      const isTotp = backupCodes.length === 0 || Math.random() < 0.97
      const call = isTotp ? 'totp' : 'backup_code'
      const isRight = Math.random() < 0.6
      const rightCode = isTotp ? phone.codeAt(at) : (backupCodes.at(-1) ?? '')
      const code = isRight ? rightCode : isTotp ? wrongCodeAt(phone, at) : 'aaaa-aaaa-aaaa-aaaa'
      const outcome = await ask(host, call, code)
      if (outcome === 'ok') {
        assert.ok(isRight, 'a wrong code was accepted')
        if (isTotp) accepted.step = Math.floor(at / 30)
        else accepted.codes++
      } else if (outcome === 'invalid_code') {
        assert.ok(!isRight, `a right code was refused: ${call}`)
        wrong[call]++
      } else assert.ok(['lost', 'unavailable'].includes(outcome), outcome)
      if (!isRight || outcome === 'invalid_code') return
      if (!isTotp) backupCodes.pop()
      // Where the answer is lost, the code may be good still.
      if (outcome === 'ok') spent.push({ call, code, at })
    },

    async check(ground: Ground): Promise<void> {
      const written = await ground.written(userId)
      assert.ok(written.lastStep >= accepted.step, `${userId}: an accepted step is not written`)
      assert.ok(written.usedCodes >= accepted.codes, `${userId}: an accepted backup code is not written`)
      for (const call of ['totp', 'backup_code'] as const) {
        const counted = written.failures[call]
        assert.ok(counted >= wrong[call], `${userId}: ${wrong[call]} wrong codes were told, ${counted} are counted`)
        assert.ok(counted <= wrong[call] + lost[call], `${userId}: ${counted} failures for ${wrong[call]} wrong codes`)
      }
      // Nothing that was accepted before the kill is accepted after it. A code of long ago is wrong, one of lately used.
      const before = spent.splice(0)
      for (const { call, code, at: then } of before.slice(-3)) {
        const { outcome } = await ground.host().ask({ call, userId, code, at: then })
        assert.ok(
          outcome === 'code_already_used' || outcome === 'invalid_code',
          `${userId}: ${outcome} for a spent code`,
        )
        if (outcome === 'invalid_code') wrong[call]++
      }
    },
  }
}
