// The databases of a run: how a process opens its store, how connections are cut, and what a whole database looks like.
import mysql from 'mysql2/promise'
import pg from 'pg'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'

const isPostgres = (url) => url.startsWith('postgres')

/** @returns the store, and a way to end its pool */
export async function openDatabase(url) {
  if (isPostgres(url)) {
    const pool = new pg.Pool({ connectionString: url, max: 8, connectionTimeoutMillis: 5000 })
    pool.on('error', () => undefined)
    return { store: postgresStore(pool), end: () => pool.end() }
  }
  const pool = mysql.createPool({ uri: url, connectionLimit: 8 })
  return { store: mysqlStore(pool), end: () => pool.end() }
}

/** @returns a way to run SQL beside the servers, on a connection that is never cut */
export async function openAdmin(url) {
  if (isPostgres(url)) {
    const client = new pg.Client({ connectionString: url, application_name: 'admin' })
    await client.connect()
    return { all: async (sql) => (await client.query(sql)).rows, end: () => client.end() }
  }
  const connection = await mysql.createConnection(url)
  return { all: async (sql) => (await connection.query(sql))[0], end: () => connection.end() }
}

/** Ends one connection of the servers, whatever it is doing. @returns whether there was one */
export async function cutOne(admin, url) {
  if (isPostgres(url)) {
    const rows = await admin.all(`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = (
        SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'admin'
          AND backend_type = 'client backend' ORDER BY (state = 'active') DESC, random() LIMIT 1)`)
    return rows.length > 0
  }
  const [row] = await admin.all(`
    SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()
    ORDER BY (command <> 'Sleep') DESC, rand() LIMIT 1`)
  if (row === undefined) return false
  await admin.all(`KILL CONNECTION ${row.id}`).catch(() => undefined)
  return true
}

/** What may never be in the tables, each a query that finds the users or rows concerned. */
const TORN = {
  'on without an authenticator': `SELECT user_id FROM totp_user AS u WHERE confirmed_at IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM totp_authenticator AS a WHERE a.user_id = u.user_id)`,
  'off with an authenticator': `SELECT user_id FROM totp_user AS u WHERE confirmed_at IS NULL
    AND EXISTS (SELECT 1 FROM totp_authenticator AS a WHERE a.user_id = u.user_id)`,
  'more authenticators than allowed': 'SELECT user_id FROM totp_authenticator GROUP BY user_id HAVING count(*) > 2',
  'on with another number of backup codes than ten': `SELECT u.user_id FROM totp_user AS u
    LEFT JOIN totp_backup_code AS c ON c.user_id = u.user_id WHERE u.confirmed_at IS NOT NULL
    GROUP BY u.user_id HAVING count(c.digest) <> 10`,
  'off with backup codes': `SELECT u.user_id FROM totp_user AS u JOIN totp_backup_code AS c ON c.user_id = u.user_id
    WHERE u.confirmed_at IS NULL`,
  'an authenticator of nobody': `SELECT a.id FROM totp_authenticator AS a
    WHERE NOT EXISTS (SELECT 1 FROM totp_user AS u WHERE u.user_id = a.user_id)`,
  'pending and live at once':
    'SELECT p.id FROM totp_pending_authenticator AS p JOIN totp_authenticator AS a ON a.id = p.id',
  'a session of a generation to come': `SELECT f.id FROM totp_refresh_family AS f JOIN totp_user AS u
    ON u.user_id = f.user_id WHERE f.generation > u.generation`,
  'a device of another generation': `SELECT d.id FROM totp_trusted_device AS d JOIN totp_user AS u
    ON u.user_id = d.user_id WHERE d.generation <> u.generation`,
  'more failures than the budget': `SELECT user_id FROM totp_failure
    WHERE consecutive > 100 OR in_period + in_previous_period > 300 OR in_period < 0`,
}

/** @returns what is torn, a line each; none when the database is whole */
export async function tornIn(admin) {
  const lines = []
  for (const [what, query] of Object.entries(TORN)) {
    const rows = await admin.all(query)
    if (rows.length > 0) lines.push(`${what}: ${rows.length}, the first ${JSON.stringify(rows[0])}`)
  }
  return lines
}
