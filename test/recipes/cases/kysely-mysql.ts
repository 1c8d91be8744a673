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
  async protectedAccounts() {
    const rows = await db.selectFrom('protected_account').selectAll().orderBy('user_id').execute()
    return rows.map(({ user_id }) => user_id)
  },
  close: () => db.destroy(),
})
