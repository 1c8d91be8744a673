import assert from 'node:assert/strict'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { generateFernetKey, type TotpStore } from 'totp-kit'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Settled } from '../src/store/store.ts'
import { byStep, type Enrolled, enroll, firstStep, tally } from '../src/testing/store-fixtures.ts'
import { type Demo, enrolled, startDemo } from './demo/demo-process.ts'
import { type OwnServer, ownMariadb, ownPostgres, ownRedis } from './own-servers.ts'
import { until } from './wait-until.ts'

const env = {
  TOTP_ENCRYPTION_KEY: generateFernetKey(),
  // Nobody reaches it; but with Redis, calls are counted there, and what is counted does not succeed without it.
  TOTP_THROTTLE_RATE: '100000/minute',
}

interface Kind {
  name: string
  make: (() => Promise<OwnServer>) | null
  /** By which the demo server hears of it. */
  variable: 'DATABASE_URL' | 'REDIS_URL'
  /** A store on it in this process, beside the demo's tables; null where it holds a part only. */
  open: ((url: string) => [store: TotpStore, close: () => Promise<void>]) | null
}

const kinds: Kind[] = [
  {
    name: 'PostgreSQL',
    make: ownPostgres,
    variable: 'DATABASE_URL',
    open(url) {
      const pool = new pg.Pool({ connectionString: url, max: 8 }).on('error', () => undefined)
      return [postgresStore(pool, { prefix: 'beside_' }), () => pool.end()]
    },
  },
  {
    name: 'MariaDB',
    make: ownMariadb,
    variable: 'DATABASE_URL',
    open(url) {
      const pool = mysql.createPool({ uri: url, connectionLimit: 8 })
      return [mysqlStore(pool, { prefix: 'beside_' }), () => pool.end()]
    },
  },
  { name: 'Redis in front of SQLite', make: ownRedis, variable: 'REDIS_URL', open: null },
]

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

describe.for(kinds)('$name', ({ make, variable, open }) => {
  const holdsAll = variable === 'DATABASE_URL'
  describe.skipIf(make === null)('killed under the demo server', () => {
    let server: OwnServer
    let demo: Demo
    beforeAll(async () => {
      if (make) server = await make()
      demo = await startDemo({ ...env, [variable]: server.url })
    })
    afterAll(async () => {
      await demo?.remove()
      await server?.remove()
    })

    const post = (path: string, body: object) => demo.call('POST', `/api/${path}`, { body })
    const verify = (body: object) => post('jwt/totp/verify/', body)
    const statusOf = ({ access }: { access: string }) => demo.call('GET', '/api/totp/status/', { bearer: access })
    /** The demo, which nobody restarts, finds the server by itself. An answer of 400 has been counted before. */
    const isBack = (user: { access: string }) =>
      until(async () => (await statusOf(user)).status === 200 && (await verify({})).status === 400, 20, 15_000)

    test('in the middle of a login: nobody passes without it, and after its restart the code passes once', async () => {
      const ann = await enrolled(demo, 'ann')
      const before = await statusOf(ann)
      const login = { totp_challenge_token: await ann.challenge(), otp_code: ann.nextCode() }

      await server.kill()
      const refused = [await verify(login), await post('jwt/create/', ann)]
      if (holdsAll) refused.push(await statusOf(ann), await post('jwt/refresh/', ann))
      await server.start()
      await isBack(ann)

      for (const { status, headers, body } of refused) {
        expect([status, body.code]).toEqual([503, 'unavailable'])
        expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
        expect(body).not.toHaveProperty('access')
      }
      expect((await statusOf(ann)).body).toEqual(before.body)
      expect((await verify(login)).status).toBe(200)
      expect((await verify(login)).body.code).toBe('challenge_invalid')
      const again = await verify({ ...login, totp_challenge_token: await ann.challenge() })
      expect(again.body.code).toBe('code_already_used')
      expect((await post('jwt/refresh/', ann)).status).toBe(200)
    })

    test('what was used before stays used, and the failures stay counted', async () => {
      const [bob, carol] = [await enrolled(demo, 'bob'), await enrolled(demo, 'carol')]
      const used = { totp_challenge_token: await bob.challenge(), backup_code: bob.backupCodes[0] }
      expect((await verify(used)).status).toBe(200)
      const guess = { totp_challenge_token: await carol.challenge(), otp_code: '000000' }
      for (let n = 0; n < 5; n++) expect((await verify(guess)).body.code).toBe('invalid_code')

      await server.kill()
      await server.start()
      await isBack(bob)

      // A Redis that has lost what it held knows no burnt challenge any more, and then the code is what is used.
      expect((await verify(used)).body.code).toBe(holdsAll ? 'challenge_invalid' : 'invalid_code')
      const anew = await verify({ ...used, totp_challenge_token: await bob.challenge() })
      expect(anew.body.code).toBe('invalid_code')
      const right = await verify({ ...guess, otp_code: carol.nextCode() })
      expect(right.body.code).toBe('too_many_attempts')
    })

    if (open === null) return
    test('under spendings: none that was confirmed is forgotten, and none succeeds twice', async () => {
      const [store, close] = open(server.url)
      await store.migrate()
      const users = await Promise.all(numbers(100).map((n) => enroll(store, { userId: `user ${n}` })))
      const answers: Settled['outcome'][][] = users.map(() => [])
      const spend = async (user: Enrolled, n: number) => {
        const { outcome } = await store.settleAttempt(byStep(user, firstStep + 1))
        answers[n]?.push(outcome)
      }

      const underWay = users.flatMap((user, n) => [spend(user, n), spend(user, n)])
      const settled = Promise.allSettled(underWay)
      await Promise.all(underWay.slice(0, 20))
      await server.kill()
      const lost = (await settled).filter(({ status }) => status === 'rejected')
      await server.start()
      await until(() => store.getUser('user 0').then(Boolean, () => false))
      for (const [n, user] of users.entries()) await spend(user, n)
      await close()

      assert.notEqual(lost.length, 0, 'it was killed before all were answered')
      for (const [n, outcomes] of answers.entries()) {
        const { spent = 0 } = tally(outcomes)
        // A spending whose answer was lost may have happened: nobody passed by it, and nobody will.
        assert.ok(spent === 1 || (spent === 0 && outcomes.length < 3), `user ${n}: ${outcomes}`)
      }
    })
  })
})
