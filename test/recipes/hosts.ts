import { execFileSync } from 'node:child_process'
import type { Pool as MysqlPool, RowDataPacket } from 'mysql2/promise'
import type { Pool } from 'pg'
import type { Recipe } from './proof.js'

type Host = Pick<Recipe, 'addAccount' | 'removeAccount' | 'connections'>

export const ON_POSTGRES = 'CREATE TABLE protected_account (user_id text PRIMARY KEY)'
export const ON_MYSQL = 'CREATE TABLE protected_account (user_id varchar(255) PRIMARY KEY)'

export function onPostgres(pool: Pool): Host {
  return {
    addAccount: (userId) => pool.query('INSERT INTO protected_account VALUES ($1)', [userId]),
    removeAccount: (userId) => pool.query('DELETE FROM protected_account WHERE user_id = $1', [userId]),
    async connections() {
      const { rows } = await pool.query<{ open: number }>(
        'SELECT count(*)::int AS open FROM pg_stat_activity WHERE datname = current_database()',
      )
      return { ofThePool: pool.totalCount, ofTheServer: rows[0]?.open ?? 0 }
    },
  }
}

/** To be called before the pool has opened a connection: it tells only of new ones. */
export function onMysql(pool: MysqlPool): Host {
  let opened = 0
  pool.on('connection', () => opened++)
  return {
    addAccount: (userId) => pool.execute('INSERT INTO protected_account VALUES (?)', [userId]),
    removeAccount: (userId) => pool.execute('DELETE FROM protected_account WHERE user_id = ?', [userId]),
    async connections() {
      const [rows] = await pool.query<RowDataPacket[]>(
        'SELECT count(*) AS open FROM information_schema.processlist WHERE db = database()',
      )
      return { ofThePool: opened, ofTheServer: Number(rows[0]?.open) }
    },
  }
}

/** What the command prints. It finds the database in DATABASE_URL. */
export function totpKit(...words: string[]): string {
  return execFileSync(process.execPath, ['../../node_modules/.bin/totp-kit', ...words], { encoding: 'utf8' })
}
