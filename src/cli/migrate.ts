import { type MysqlPool, mysqlStore } from '../store/mysql.ts'
import { type PostgresPool, postgresStore } from '../store/postgres.ts'
import type { TableOptions } from '../store/sql/tables.ts'
import { sqliteStore } from '../store/sqlite.ts'

/**
 * Brings the tables of a database up to date, with the driver that the host has installed.
 *
 * @param url - `sqlite:PATH`, `postgres://…` or `mysql://…`
 * @throws TypeError for another kind of URL, and for `sqlite:` without a path. The message does not repeat it: it may hold a password.
 */
export async function migrateDatabase(url: string, tables: TableOptions): Promise<void> {
  const [scheme] = url.split(':')
  switch (scheme) {
    case 'sqlite': {
      const path = url.replace(/^sqlite:(\/\/)?/, '')
      // SQLite takes an empty path for a temporary database, which is gone when the command ends.
      if (path.trim() === '') throw new TypeError('the database URL must name a file: sqlite:PATH')
      const store = await sqliteStore(path, tables)
      return store.close()
    }
    case 'postgres':
    case 'postgresql': {
      const { default: pg } = await driver<{ default: { Pool: new (options: object) => Closing<PostgresPool> } }>('pg')
      const pool = new pg.Pool({ connectionString: url, max: 1 })
      return postgresStore(pool, tables)
        .migrate()
        .finally(() => pool.end())
    }
    case 'mysql':
    case 'mariadb': {
      const mysql = await driver<{ createPool: (url: string) => Closing<MysqlPool> }>('mysql2/promise')
      const pool = mysql.createPool(url.replace(/^mariadb:/, 'mysql:'))
      return mysqlStore(pool, tables)
        .migrate()
        .finally(() => pool.end())
    }
    default:
      throw new TypeError('the database URL must start with sqlite:, postgres:// or mysql://')
  }
}

type Closing<T> = T & { end(): Promise<void> }

/** @throws Error that says what to install */
async function driver<T>(name: string): Promise<T> {
  try {
    return (await import(name)) as T
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new Error(`database driver not found: run npm install ${name.split('/')[0]}`)
  }
}
