import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import type { TotpStore } from 'totp-kit'
import { withRedis } from 'totp-kit/redis'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'

/** The demo's own access to the database that it shares with the store. Values stand for question marks in order. */
export interface Database {
  /** A text column that is a key. */
  keyType: string
  all(sql: string, values: string[]): Promise<Record<string, unknown>[]>
  /** False when a key is taken. `into` is `table (columns)`. */
  insert(into: string, values: string[]): Promise<boolean>
  execute(sql: string): Promise<unknown>
}

export interface Opened {
  database: Database
  store: TotpStore
  close(): Promise<void>
}

/** Opens the database of `DATABASE_URL`, and Redis in front of it where there is one; brings the tables up to date. */
export async function openDatabase(url: string, redisUrl: string | null, log: (line: string) => void): Promise<Opened> {
  const opened = await openAny(url, log)
  await opened.store.migrate()
  if (redisUrl === null) return opened
  let wasThere = false
  // A Redis that is not there stops the start; one that is lost later is connected to anew.
  const reconnectStrategy = (retries: number, cause: Error) => (wasThere ? Math.min(retries * 50, 2000) : cause)
  const socket = { connectTimeout: 2000, reconnectStrategy }
  const redis = createClient({ url: redisUrl, disableOfflineQueue: true, socket })
  // Without a listener a lost connection would end the process.
  redis.on('error', (error: Error) => wasThere && log(`error redis: ${error.message}`))
  try {
    await redis.connect()
  } catch (error) {
    throw new Error(`REDIS_URL: ${(error as Error).message}`)
  }
  wasThere = true
  const close = async () => {
    redis.destroy()
    await opened.close()
  }
  return { ...opened, store: withRedis(opened.store, redis), close }
}

function openAny(url: string, log: (line: string) => void): Promise<Opened> {
  if (url.startsWith('postgres')) return openPostgres(url, log)
  if (url.startsWith('mysql')) return openMysql(url)
  return openSqliteFile(url.replace(/^sqlite:(\/\/)?/, ''))
}

async function openSqliteFile(path: string): Promise<Opened> {
  const connection = await openSqlite(path)
  const named = (values: string[]) => Object.fromEntries(values.map((value, index) => [`v${index}`, value]))
  const numbered = (sql: string) => replaceMarks(sql, (index) => `:v${index}`)
  return {
    store: await sqliteStore(connection),
    database: {
      keyType: 'TEXT',
      all: async (sql, values) => connection.prepare(numbered(sql)).all(named(values)) as Record<string, unknown>[],
      insert: async (into, values) => {
        const sql = `INSERT INTO ${into} VALUES (${marks(values)}) ON CONFLICT DO NOTHING`
        return Number(connection.prepare(numbered(sql)).run(named(values)).changes) === 1
      },
      execute: async (sql) => connection.exec(sql),
    },
    async close() {
      connection.close()
    },
  }
}

async function openPostgres(url: string, log: (line: string) => void): Promise<Opened> {
  const pool = new pg.Pool({ connectionString: url, max: 10, connectionTimeoutMillis: 5000 })
  // Without a listener a connection that breaks while it is idle would end the process.
  pool.on('error', (error) => log(`error postgres: ${error.message}`))
  const numbered = (sql: string) => replaceMarks(sql, (index) => `$${index + 1}`)
  return {
    store: postgresStore(pool),
    database: {
      keyType: 'text',
      all: async (sql, values) => (await pool.query(numbered(sql), values)).rows,
      insert: async (into, values) => {
        const sql = `INSERT INTO ${into} VALUES (${marks(values)}) ON CONFLICT DO NOTHING`
        return (await pool.query(numbered(sql), values)).rowCount === 1
      },
      execute: (sql) => pool.query(sql),
    },
    close: () => pool.end(),
  }
}

async function openMysql(url: string): Promise<Opened> {
  const pool = mysql.createPool({ uri: url, connectionLimit: 10, connectTimeout: 5000 })
  return {
    store: mysqlStore(pool),
    database: {
      keyType: 'VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
      all: async (sql, values) => (await pool.execute<mysql.RowDataPacket[]>(sql, values))[0],
      insert: async (into, values) => {
        const sql = `INSERT IGNORE INTO ${into} VALUES (${marks(values)})`
        return (await pool.execute<mysql.ResultSetHeader>(sql, values))[0].affectedRows === 1
      },
      execute: (sql) => pool.query(sql),
    },
    close: () => pool.end(),
  }
}

function marks(values: string[]): string {
  return values.map(() => '?').join(', ')
}

function replaceMarks(sql: string, word: (index: number) => string): string {
  let index = 0
  return sql.replace(/\?/g, () => word(index++))
}
