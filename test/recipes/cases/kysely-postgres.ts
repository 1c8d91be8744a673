import { promises as fs } from 'node:fs'
import path from 'node:path'
import { FileMigrationProvider, Migrator } from 'kysely'
import { postgresStore } from 'totp-kit/store/postgres'
import { ON_POSTGRES, onPostgres } from '../hosts.js'
import { prove } from '../proof.js'
import { db, pool } from './db.js'

await prove({
  ...onPostgres(pool),
  async migrate() {
    await pool.query(ON_POSTGRES)
    const provider = new FileMigrationProvider({ fs, path, migrationFolder: path.resolve('migrations') })
    const { error } = await new Migrator({ db, provider }).migrateToLatest()
    if (error) throw error
    await postgresStore(pool).migrate()
  },
  twoFactor: () => import('./two-factor.js'),
  async protectedAccounts() {
    const rows = await db.selectFrom('protected_account').selectAll().orderBy('user_id').execute()
    return rows.map(({ user_id }) => user_id)
  },
  close: () => db.destroy(),
})
