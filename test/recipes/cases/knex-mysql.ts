import { ON_MYSQL, onMysql, totpKit } from '../hosts.js'
import { prove } from '../proof.js'
import { db, pool } from './db.js'

await prove({
  ...onMysql(pool),
  async migrate() {
    await pool.query(ON_MYSQL)
    totpKit('migrate')
  },
  twoFactor: () => import('./two-factor.js'),
  protectedAccounts: () => db('protected_account').orderBy('user_id').pluck('user_id'),
  async close() {
    await db.destroy()
    await pool.end()
  },
})
