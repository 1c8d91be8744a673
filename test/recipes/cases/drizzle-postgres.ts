import assert from 'node:assert/strict'
import { asc } from 'drizzle-orm'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import { postgresStore } from 'totp-kit/store/postgres'
import { onPostgres } from '../hosts.js'
import { prove } from '../proof.js'
import { db, pool } from './db.js'
import { protectedAccount } from './schema.js'
import { totpAuthenticator } from './totp-schema.js'

/** What there is of tables, in words that do not name the schema. */
async function columnsIn(schema: string) {
  const { rows } = await pool.query<{ told: string }>(
    `SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable) AS told
     FROM information_schema.columns WHERE table_schema = $1 AND table_name LIKE 'totp%'
     UNION SELECT concat_ws(' ', tablename, substring(indexdef FROM 'USING.*'))
     FROM pg_indexes WHERE schemaname = $1 AND tablename LIKE 'totp%' ORDER BY told`,
    [schema],
  )
  assert.ok(rows.length > 50)
  return rows.map(({ told }) => told)
}

await prove({
  ...onPostgres(pool),
  async migrate() {
    await migrate(db, { migrationsFolder: 'drizzle' })
    await postgresStore(pool).migrate()
    assert.deepEqual((await pool.query('SELECT version FROM totp_migration')).rows, [])
    await postgresStore(pool, { schema: 'by_totp_kit' }).migrate()
    assert.deepEqual(await columnsIn('public'), await columnsIn('by_totp_kit'))
  },
  twoFactor: () => import('./two-factor.js'),
  async protectedAccounts() {
    await db.select().from(totpAuthenticator)
    const rows = await db.select().from(protectedAccount).orderBy(asc(protectedAccount.userId))
    return rows.map(({ userId }) => userId)
  },
  close: () => pool.end(),
})
