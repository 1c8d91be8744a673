import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TotpStore } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { currentTables } from '../../src/store/sql/migrations.ts'
import { tablesOf } from '../../src/store/sql/tables.ts'
import { mysqlPool, postgresPool } from '../services.ts'

/** A database as the processes of a world share it. */
export interface Storage {
  name: string
  /** The store of one process, on a connection of its own where the database has such. */
  open(): Promise<TotpStore>
  /** The store of another service in the same database. */
  openOther(): Promise<TotpStore>
  /** A transaction of the host's; null where there are none. */
  begin: null | (() => Promise<HostTransaction>)
  /** A new world begins. */
  empty(): Promise<void>
  close(): Promise<void>
}

interface HostTransaction {
  within(options?: { deadlineMs: number }): TotpStore
  /** Holds the user's row, so that another transaction has to wait. */
  hold(userId: string): Promise<void>
  end(how: 'COMMIT' | 'ROLLBACK'): Promise<void>
}

const OTHER = 'other_'
const allTables = [tablesOf(), tablesOf({ prefix: OTHER })].flatMap((tables) =>
  currentTables.map(({ name }) => tables[name]),
)
const userTable = tablesOf().user

export async function memoryStorage(): Promise<Storage> {
  let [store, other] = [memoryStore(), memoryStore()]
  return {
    name: 'memory',
    open: async () => store,
    openOther: async () => other,
    begin: null,
    async empty() {
      ;[store, other] = [memoryStore(), memoryStore()]
    },
    async close() {},
  }
}

export async function sqliteStorage(): Promise<Storage> {
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-machine-'))
  const connect = async () => {
    const connection = await openSqlite(join(directory, 'machine.db'))
    // No test cuts the power here.
    connection.exec('PRAGMA synchronous = OFF')
    return connection
  }
  const admin = await connect()
  const other = await sqliteStore(admin, { prefix: OTHER })
  const opened: { close(): unknown }[] = [admin]
  return {
    name: 'SQLite',
    async open() {
      const connection = await connect()
      opened.push(connection)
      const store = await sqliteStore(connection)
      return {
        ...store,
        async close() {
          await store.close()
          connection.close()
          opened.splice(opened.indexOf(connection), 1)
        },
      }
    },
    openOther: async () => other,
    begin: null,
    async empty() {
      const there = admin.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all({}) as { name: string }[]
      for (const { name } of there) if (allTables.includes(name)) admin.exec(`DELETE FROM ${name}`)
    },
    async close() {
      await other.close()
      for (const connection of opened) connection.close()
      await rm(directory, { recursive: true })
    },
  }
}

export async function postgresStorage(): Promise<Storage> {
  const { pool, drop } = await postgresPool()
  const store = () => postgresStore(pool)
  const other = postgresStore(pool, { prefix: OTHER })
  await store().migrate()
  await other.migrate()
  return {
    name: 'PostgreSQL',
    open: async () => store(),
    openOther: async () => other,
    async begin() {
      const client = await pool.connect()
      const ignore = () => undefined
      client.on('error', ignore)
      await client.query('BEGIN')
      return {
        within: (options) => store().within(client, options),
        hold: (userId) =>
          client.query(`SELECT 1 FROM ${userTable} WHERE user_id = $1 FOR UPDATE`, [userId]).then(() => undefined),
        async end(how) {
          await client.query(how)
          client.removeListener('error', ignore)
          client.release()
        },
      }
    },
    async empty() {
      await pool.query(allTables.map((table) => `DELETE FROM ${table}`).join('; '))
    },
    close: drop,
  }
}

export async function mysqlStorage(): Promise<Storage> {
  const { pool, drop } = await mysqlPool()
  const store = () => mysqlStore(pool)
  const other = mysqlStore(pool, { prefix: OTHER })
  await store().migrate()
  await other.migrate()
  return {
    name: 'MariaDB',
    open: async () => store(),
    openOther: async () => other,
    async begin() {
      const connection = await pool.getConnection()
      await connection.query('START TRANSACTION')
      return {
        within: (options) => store().within(connection, options),
        hold: (userId) =>
          connection.execute(`SELECT 1 FROM ${userTable} WHERE user_id = ? FOR UPDATE`, [userId]).then(() => undefined),
        async end(how) {
          await connection.query(how)
          connection.release()
        },
      }
    },
    async empty() {
      for (const table of allTables) await pool.query(`DELETE FROM ${table}`)
    },
    close: drop,
  }
}
