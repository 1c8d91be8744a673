/**
 * better-auth with its `twoFactor` plugin, as its documentation says, and its rate limiting off. Passwords are compared in
 * clear, so that signing in, which has to be done before each verification and is not measured, does not take all day;
 * `enable` checks the password in every request, and is the cheaper for it.
 */
import { betterAuth } from 'better-auth'
import { getMigrations } from 'better-auth/db/migration'
import { toNodeHandler } from 'better-auth/node'
import { twoFactor } from 'better-auth/plugins'
import { SqliteDialect } from 'kysely'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { authenticatorFor } from '../../dist/testing/index.js'
import { openSqlite } from '../databases.mjs'
import { inBatches } from '../measure.mjs'
import { config, post, serve } from './server-process.mjs'

const origin = 'http://bench.test'
const password = 'correct horse battery staple'
const options = {
  baseURL: origin,
  secret: config.encryptionKey,
  database: await openDatabase(config.database),
  emailAndPassword: {
    enabled: true,
    password: {
      hash: async (text) => `clear:${text}`,
      verify: async ({ hash, password }) => hash === `clear:${password}`,
    },
  },
  plugins: [twoFactor({ issuer: 'Bench' })],
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { level: 'error' },
}
if (config.first) await (await getMigrations(options)).runMigrations()
const auth = betterAuth(options)

const enrolled = []
const fresh = []
const now = () => Math.floor(Date.now() / 1000)

await serve({
  handlers: { node: toNodeHandler(auth) },
  prepare: async (work, count) => ({ requests: await works[work](count), at: now() }),
})

const works = {
  async login(count) {
    const users = await atLeast(enrolled, count, enroll)
    return inBatches(users, 8, async ({ email, phone }) =>
      request('/two-factor/verify-totp', { code: phone.codeAt(now()) }, await challenge(email)),
    )
  },
  async backup(count) {
    const users = await atLeast(enrolled, count, enroll)
    return inBatches(users, 8, async (user) => {
      if (user.codes.length === 0) {
        const answer = await call('/two-factor/generate-backup-codes', { password }, user.session)
        user.codes = (await answer.json()).backupCodes
      }
      return request('/two-factor/verify-backup-code', { code: user.codes.pop() }, await challenge(user.email))
    })
  },
  async create(count) {
    const users = await atLeast(fresh, count, signUp)
    return users.map(({ session }) => request('/two-factor/enable', { password }, session))
  },
}

async function openDatabase({ kind, url }) {
  if (kind === 'sqlite') {
    const database = await openSqlite(url)
    // As it is when it comes from node:sqlite; libsql speaks as better-sqlite3 does, which Kysely has to be told.
    return 'createSession' in database ? database : { dialect: new SqliteDialect({ database }), type: 'sqlite' }
  }
  if (kind === 'postgres') return new pg.Pool({ connectionString: url })
  return mysql.createPool({ uri: url, timezone: 'Z' })
}

async function atLeast(list, count, make) {
  const missing = Array.from({ length: Math.max(0, count - list.length) })
  list.push(...(await inBatches(missing, 8, make)))
  return list.slice(0, count)
}

async function signUp() {
  const email = `${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}@example.com`
  return { email, session: cookiesOf(await call('/sign-up/email', { email, password, name: 'Ada' })) }
}

async function enroll() {
  const user = await signUp()
  const { totpURI, backupCodes } = await (await call('/two-factor/enable', { password }, user.session)).json()
  const phone = authenticatorFor(totpURI)
  const verified = await call('/two-factor/verify-totp', { code: phone.codeAt(now()) }, user.session)
  return { ...user, session: cookiesOf(verified), phone, codes: backupCodes }
}

async function challenge(email) {
  return cookiesOf(await call('/sign-in/email', { email, password }))
}

function request(path, body, cookie) {
  return post(`/api/auth${path}`, body, { cookie, origin })
}

async function call(path, body, cookie = '') {
  const { method, path: whole, headers, body: text } = request(path, body, cookie)
  const response = await auth.handler(new Request(origin + whole, { method, headers, body: text }))
  if (!response.ok) throw new Error(`better-auth ${path}: ${response.status} ${await response.text()}`)
  return response
}

function cookiesOf(response) {
  return response.headers
    .getSetCookie()
    .map((cookie) => cookie.split(';')[0])
    .filter((cookie) => !cookie.endsWith('='))
    .join('; ')
}
