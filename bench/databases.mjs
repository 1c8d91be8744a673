/** A new database for each contender, and its end. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mysql from 'mysql2/promise'
import pg from 'pg'

const SERVERS = {
  postgres: process.env.TEST_POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test',
  mariadb: process.env.TEST_MYSQL_URL ?? 'mysql://root@127.0.0.1:3306/test',
}

/** @returns `url`: for SQLite the path of a file */
export async function makeDatabase(kind) {
  if (kind === 'sqlite') {
    const folder = await mkdtemp(join(tmpdir(), 'totp-kit-bench-'))
    return { kind, url: join(folder, 'bench.db'), drop: () => rm(folder, { recursive: true, force: true }) }
  }
  const name = `totp_kit_bench_${randomBytes(6).toString('hex')}`
  const url = new URL(SERVERS[kind])
  url.pathname = `/${name}`
  await onServer(kind, `CREATE DATABASE ${name}`)
  const force = kind === 'postgres' ? ' WITH (FORCE)' : ''
  return { kind, url: url.href, drop: () => onServer(kind, `DROP DATABASE IF EXISTS ${name}${force}`) }
}

/** The version of the server, or null when there is none. */
export async function serverVersion(kind) {
  try {
    return await onServer(kind, 'SELECT version() AS version')
  } catch {
    return null
  }
}

async function onServer(kind, statement) {
  const base = new URL(SERVERS[kind])
  if (kind === 'postgres') {
    const client = new pg.Client({ connectionString: base.href })
    await client.connect()
    try {
      return (await client.query(statement)).rows[0]?.version
    } finally {
      await client.end()
    }
  }
  base.pathname = '/'
  const connection = await mysql.createConnection(base.href)
  try {
    return (await connection.query(statement))[0][0]?.version
  } finally {
    await connection.end()
  }
}

/** One driver for all that runs on Node: `node:sqlite` where it is (Node 22.13), else `libsql`. */
export async function openSqlite(path) {
  const Database = await import('node:sqlite').then(
    ({ DatabaseSync }) => DatabaseSync,
    () => import('libsql').then((module) => module.default),
  )
  const database = new Database(path)
  database.exec('PRAGMA busy_timeout = 5000')
  database.exec('PRAGMA synchronous = FULL')
  database.exec('PRAGMA journal_mode = WAL')
  return database
}
