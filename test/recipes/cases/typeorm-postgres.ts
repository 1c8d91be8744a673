import { postgresStore } from 'totp-kit/store/postgres'
import { ON_POSTGRES, onPostgres } from '../hosts.js'
import { prove } from '../proof.js'
import { dataSource, pool, protectedAccounts } from './db.js'

await prove({
  ...onPostgres(pool),
  async migrate() {
    await pool.query(ON_POSTGRES)
    await dataSource.runMigrations()
    await postgresStore(pool).migrate()
  },
  twoFactor: () => import('./two-factor.js'),
  async protectedAccounts() {
    const rows = await dataSource.getRepository(protectedAccounts).find({ order: { userId: 'ASC' } })
    return rows.map(({ userId }) => userId)
  },
  close: () => dataSource.destroy(),
})
