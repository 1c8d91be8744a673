import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createTotp, generateFernetKey, type TotpStore } from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { jwtTokens } from 'totp-kit/jwt'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { mysqlPool, postgresPool, services } from './services.ts'

/**
 * What an endpoint costs, in counts that no noisy machine changes: what the database is asked (`BEGIN` and `COMMIT` too:
 * each is a round trip where there is a network), and HMACs and Fernet tokens, which are the most of the CPU. A change that
 * costs more fails here; what it costs in time is measured in `bench/`.
 */
interface Counts {
  asked: number
  hmacs: number
  ciphers: number
}

const counts: Counts = { asked: 0, hmacs: 0, ciphers: 0 }

const { createHmac, createCipheriv, createDecipheriv } = crypto
beforeAll(() => {
  const counting = <F extends (...args: never[]) => unknown>(original: F, count: () => void) =>
    ((...args) => {
      count()
      return original(...args)
    }) as F
  crypto.createHmac = counting(createHmac, () => void counts.hmacs++)
  crypto.createCipheriv = counting(createCipheriv as never, () => void counts.ciphers++)
  crypto.createDecipheriv = counting(createDecipheriv as never, () => void counts.ciphers++)
  syncBuiltinESMExports()
})
afterAll(() => {
  Object.assign(crypto, { createHmac, createCipheriv, createDecipheriv })
  syncBuiltinESMExports()
})

// biome-ignore lint/suspicious/noExplicitAny: whatever a driver takes
type Asking = (...args: any[]) => any

const counted = <Ask extends Asking>(ask: Ask) =>
  ((...args: unknown[]) => {
    counts.asked++
    return ask(...args)
  }) as Ask

interface Database {
  name: string
  isThere: boolean
  open(): Promise<TotpStore>
  /** Endpoint → what it asks of the database. */
  asked: Record<string, number>
}

const databases: Database[] = [
  {
    name: 'SQLite',
    isThere: true,
    async open() {
      const connection = await openSqlite(':memory:')
      const prepare = connection.prepare.bind(connection)
      connection.prepare = (sql) => {
        const statement = prepare(sql)
        return Object.assign(statement, {
          run: counted(statement.run.bind(statement)),
          all: counted(statement.all.bind(statement)),
        })
      }
      connection.exec = counted(connection.exec.bind(connection))
      return sqliteStore(connection)
    },
    /** A code is one read, and one commit of eight statements (nine for a backup code), whatever the verdict. */
    asked: {
      'log in without 2FA': 5,
      create: 9,
      confirm: 32,
      challenge: 1,
      'verify, app code': 11,
      'verify, backup code': 12,
      'verify, wrong code': 11,
      status: 8,
      refresh: 5,
      'rotate backup codes': 17,
      disable: 17,
    },
  },
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async open() {
      const { url, drop } = await postgresPool()
      onTestFinished(drop)
      const pool = new pg.Pool({ connectionString: url, max: 2 })
      onTestFinished(() => pool.end())
      pool.on('error', () => undefined)
      pool.on('connect', (client) => {
        client.query = counted(client.query.bind(client))
      })
      return postgresStore(pool)
    },
    /** A code is one statement that reads and one that settles. */
    asked: {
      'log in without 2FA': 2,
      create: 9,
      confirm: 30,
      challenge: 1,
      'verify, app code': 2,
      'verify, backup code': 2,
      'verify, wrong code': 2,
      status: 8,
      refresh: 2,
      'rotate backup codes': 17,
      disable: 17,
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async open() {
      const { url, drop } = await mysqlPool()
      onTestFinished(drop)
      const pool = mysql.createPool({ uri: url, connectionLimit: 2 })
      onTestFinished(() => pool.end())
      const count = (on: { query: unknown; execute: unknown }) => {
        for (const name of ['query', 'execute'] as const) on[name] = counted((on[name] as Asking).bind(on))
        return on
      }
      count(pool)
      const getConnection = pool.getConnection.bind(pool)
      pool.getConnection = async () => count(await getConnection()) as never
      return mysqlStore(pool)
    },
    /** As on SQLite; a transaction is three statements here, since it begins with its isolation level. */
    asked: {
      'log in without 2FA': 6,
      create: 10,
      confirm: 31,
      challenge: 1,
      'verify, app code': 12,
      'verify, backup code': 13,
      'verify, wrong code': 12,
      status: 9,
      refresh: 6,
      'rotate backup codes': 18,
      disable: 18,
    },
  },
]

describe.each(databases)('$name', ({ isThere, open, asked }) => {
  test.skipIf(!isThere)('each endpoint costs what it is known to cost', async () => {
    const store = await open()
    await store.migrate()
    const clock = fakeClock(1_800_000_000)
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store, clock: clock.now })
    const tokens = jwtTokens(totp, { authenticate: async () => '42', accessTokenSeconds: 3600 })
    const handler = fetchTotp(totp, {
      jwt: tokens,
      caller: async (request) => {
        const token = await tokens.verifyAccessToken(request.headers.get('authorization') ?? undefined)
        return token && { ...token, accountName: 'ann' }
      },
      clientAddress: () => null,
    })
    const cost: Record<string, Counts> = {}
    const call = async (name: string, path: string, body: object | null, bearer = '') => {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${bearer}` }
      const init = body ? { method: 'POST', headers, body: JSON.stringify(body) } : { headers }
      Object.assign(counts, { asked: 0, hmacs: 0, ciphers: 0 })
      const response = await handler(new Request(`http://service.test/api/${path}`, init))
      cost[name] = { ...counts }
      return response.status === 204 ? {} : ((await response.json()) as Record<string, string>)
    }
    const login = { username: 'ann', password: 'any' }

    const { access = '' } = await call('log in without 2FA', 'jwt/create', login)
    const { uri = '' } = await call('create', 'totp/create', {}, access)
    const phone = authenticatorFor(uri)
    const code = () => {
      clock.advance(30)
      return phone.codeAt(clock.now())
    }
    const { backup_codes } = await call('confirm', 'totp/confirm', { input_code: code() }, access)
    const challenge = async (name = 'challenge') => (await call(name, 'jwt/create', login)).totp_challenge_token
    const byApp = { totp_challenge_token: await challenge(), otp_code: code() }
    const session = await call('verify, app code', 'jwt/totp/verify', byApp)
    const backup_code = backup_codes?.[0]
    await call('verify, backup code', 'jwt/totp/verify', { totp_challenge_token: await challenge(), backup_code })
    await call('verify, wrong code', 'jwt/totp/verify', { totp_challenge_token: await challenge(), otp_code: '000000' })
    await call('status', 'totp/status', null, session.access)
    await call('refresh', 'jwt/refresh', { refresh: session.refresh })
    await call('rotate backup codes', 'totp/rotate_backup_codes', {}, session.access)
    await call('disable', 'totp/disable', {}, session.access)

    expect(Object.fromEntries(Object.entries(cost).map(([name, { asked }]) => [name, asked]))).toEqual(asked)
    expect(
      Object.fromEntries(Object.entries(cost).map(([name, { hmacs, ciphers }]) => [name, [hmacs, ciphers]])),
    ).toEqual(CPU)
  })
})

/** HMACs and Fernet ciphers of each endpoint, whatever the database. Each access or refresh token is one HMAC. */
const CPU: Record<string, [hmacs: number, ciphers: number]> = {
  'log in without 2FA': [2, 0],
  create: [2, 1],
  confirm: [27, 11],
  challenge: [1, 1],
  'verify, app code': [7, 2],
  'verify, backup code': [4, 1],
  'verify, wrong code': [26, 2],
  status: [1, 0],
  refresh: [3, 0],
  'rotate backup codes': [21, 10],
  disable: [1, 0],
}
