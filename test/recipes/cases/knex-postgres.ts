import { postgresStore } from 'totp-kit/store/postgres'
import { ON_POSTGRES, onPostgres } from '../hosts.js'
import { prove } from '../proof.js'
import { db, pool } from './db.js'

await prove({
  ...onPostgres(pool),
  async migrate() {
    await pool.query(ON_POSTGRES)
    await db.migrate.latest({ directory: 'migrations' })
    await postgresStore(pool).migrate()
  },
  twoFactor: () => import('./two-factor.js'),
  protectedAccounts: () => db('protected_account').orderBy('user_id').pluck('user_id'),
  async close() {
    await db.destroy()
    await pool.end()
  },
})
