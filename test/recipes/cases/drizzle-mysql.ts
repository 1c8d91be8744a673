import { asc } from 'drizzle-orm'
import { migrate } from 'drizzle-orm/mysql2/migrator'
import { onMysql } from '../hosts.js'
import { prove } from '../proof.js'
import { db, pool } from './db.js'
import { protectedAccount } from './schema.js'

await prove({
  ...onMysql(pool),
  migrate: () => migrate(db, { migrationsFolder: 'drizzle' }),
  twoFactor: () => import('./two-factor.js'),
  async protectedAccounts() {
    const rows = await db.select().from(protectedAccount).orderBy(asc(protectedAccount.userId))
    return rows.map(({ userId }) => userId)
  },
  close: () => pool.end(),
})
