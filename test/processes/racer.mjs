// One of several processes on one database: says that it is ready, waits for a line with the database and calls, makes
// them one after the other, prints the answers, and waits for the next line.
import { createInterface } from 'node:readline'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { sqliteStore } from 'totp-kit/store/sqlite'

const openers = {
  'sqlite:': (url) => sqliteStore(url.pathname),
  async 'postgres:'(url) {
    const { default: pg } = await import('pg')
    const pool = new pg.Pool({ connectionString: url.href, max: 1 })
    // `end` answers before the connection is closed, so the test may drop the database first.
    pool.on('error', () => undefined)
    await pool.query('SELECT 1')
    return { ...postgresStore(pool), close: () => pool.end() }
  },
  async 'mysql:'(url) {
    const { createPool } = await import('mysql2/promise')
    const pool = createPool({ uri: url.href, connectionLimit: 1 })
    await pool.query('SELECT 1')
    return { ...mysqlStore(pool), close: () => pool.end() }
  },
}
const open = (url) => openers[new URL(url).protocol](new URL(url))

/** Opened before the race, where its URL is given; other databases are opened in it. */
const [opened] = await Promise.all(process.argv.slice(2).map(open))
console.log('ready')

for await (const line of createInterface({ input: process.stdin })) {
  const { url, calls } = JSON.parse(line)
  const store = url === null ? opened : await open(url)
  const answers = []
  for (const [operation, ...parameters] of calls) answers.push((await store[operation](...parameters)) ?? null)
  if (store !== opened) await store.close()
  console.log(JSON.stringify(answers))
}
await opened?.close()
