import assert from 'node:assert/strict'
import { sql } from 'drizzle-orm'
import { authenticatorFor } from 'totp-kit/testing'

// A database in memory is there for one connection only: what totp-kit writes, Drizzle would not find on another.
process.env.DATABASE_PATH = ':memory:'
const { db, totp } = await import('./two-factor.js')

const phone = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
const now = Math.floor(Date.now() / 1000)
const confirming = totp.confirmTotpSetup('ann', phone.codeAt(now))
const rolledBack = () =>
  db.transaction((tx) => {
    tx.run(sql`CREATE TABLE account (id TEXT)`)
    tx.rollback()
  })

assert.throws(rolledBack, /Rollback/)
assert.equal((await confirming).backupCodes?.length, 10)
assert.equal((await totp.verifyTotpCode('ann', phone.codeAt(now + 30))).userId, 'ann')
assert.deepEqual(db.all(sql`SELECT user_id FROM totp_authenticator`), [{ user_id: 'ann' }])
assert.deepEqual(db.all(sql`SELECT name FROM sqlite_schema WHERE name = 'account'`), [])
