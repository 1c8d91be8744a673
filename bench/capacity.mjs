/**
 * What docs/capacity.md reckons with: bytes of a user and of a login in PostgreSQL, and the CPU that its processes spend on a
 * login. Needs PostgreSQL on this machine. Prints a few lines.
 */
import { readdirSync, readFileSync } from 'node:fs'
import pg from 'pg'
import { createTotp, generateFernetKey } from '../dist/index.js'
import { jwtTokens } from '../dist/jwt/index.js'
import { postgresStore } from '../dist/store/postgres.js'
import { authenticatorFor, fakeClock } from '../dist/testing/index.js'
import { makeDatabase } from './databases.mjs'

const USERS = 2000
const ROUNDS = 5
const database = await makeDatabase('postgres')
const pool = new pg.Pool({ connectionString: database.url, max: 8 })
pool.on('error', () => undefined)
try {
  const clock = fakeClock(1_800_000_000)
  const store = postgresStore(pool)
  await store.migrate()
  const totp = await createTotp({ issuer: 'Bench', encryptionKey: generateFernetKey(), store, clock: clock.now })
  const tokens = jwtTokens(totp, { authenticate: async () => null })
  const phones = new Map()
  for (let n = 0; n < USERS; n++) {
    const id = `0b6c5c3e-5f0b-4d7e-9a51-${String(n).padStart(12, '0')}`
    const phone = authenticatorFor((await totp.createTotpSetup({ id, accountName: 'somebody@example.com' })).uri)
    await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
    phones.set(id, phone)
  }
  await pool.query('VACUUM FULL')
  const { rows: sizes } = await pool.query(
    `SELECT relname, pg_total_relation_size(oid) AS bytes FROM pg_class WHERE relkind = 'r' AND relname LIKE 'totp%' ORDER BY 2 DESC`,
  )
  const bytes = sizes.reduce((sum, { bytes }) => sum + Number(bytes), 0)
  console.log(`a user with 10 backup codes: ${Math.round(bytes / USERS)} bytes with indexes`)
  for (const { relname, bytes } of sizes.slice(0, 4)) console.log(`  ${relname}: ${Math.round(Number(bytes) / USERS)}`)

  const wal = async () => Number((await pool.query(`SELECT pg_current_wal_lsn() - '0/0' AS at`)).rows[0].at)
  await logIn()
  const [walBefore, cpuBefore] = [await wal(), serverCpu()]
  for (let round = 0; round < ROUNDS; round++) await logIn()
  const logins = ROUNDS * USERS
  console.log(`a login in PostgreSQL: ${Math.round((serverCpu() - cpuBefore) / logins)} µs of CPU of its processes`)
  console.log(`a login in PostgreSQL: ${Math.round(((await wal()) - walBefore) / logins)} bytes of WAL`)

  async function logIn() {
    clock.advance(30)
    const waiting = [...phones]
    const lane = async () => {
      for (let next = waiting.pop(); next; next = waiting.pop()) {
        const [id, phone] = next
        const { challengeToken } = await totp.startLogin(id)
        const proof = await totp.answerChallenge(challengeToken, { method: 'totp', code: phone.codeAt(clock.now()) })
        await tokens.issueTokens(proof)
      }
    }
    await Promise.all(Array.from({ length: 8 }, lane))
  }
} finally {
  await pool.end()
  await database.drop()
}

/** @returns µs that all processes named postgres have had, since they began */
function serverCpu() {
  const ticks = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
        if (!stat.includes('(postgres)')) return 0
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
        return Number(fields[11]) + Number(fields[12])
      } catch {
        return 0
      }
    })
  return ticks.reduce((sum, own) => sum + own, 0) * 10_000
}
