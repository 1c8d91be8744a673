import { connect } from 'node:net'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { reportSkipped } from './skipped.ts'

/** Where the servers are that tests may use; `.ci/run` starts them there. */
const postgresUrl = process.env.TEST_POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test'
const mysqlUrl = process.env.TEST_MYSQL_URL ?? 'mysql://root@127.0.0.1:3306/test'
export const redisUrl = process.env.TEST_REDIS_URL ?? 'redis://127.0.0.1:6379'

/** Which of them answer. One that does not is left out, loudly; with REQUIRE_SERVICES=1 it is an error. */
export const services = {
  postgres: await answers('PostgreSQL', postgresUrl),
  mysql: await answers('MariaDB', mysqlUrl),
  redis: await answers('Redis', redisUrl),
}

async function answers(name: string, url: string): Promise<boolean> {
  const { hostname, port } = new URL(url)
  const isThere = await new Promise<boolean>((resolve) => {
    const socket = connect(Number(port), hostname)
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.setTimeout(2000, () => resolve(false))
  })
  if (!isThere) reportSkipped(`no ${name} at ${hostname}:${port}: its tests are LEFT OUT`)
  return isThere
}

/** A pool on a database of its own, and the way to be rid of both. */
export async function postgresPool(connections = 8) {
  const { name, url } = fresh(postgresUrl)
  const admin = new pg.Client({ connectionString: postgresUrl })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${name}`)
  // No test cuts the power: without waiting for the disk the run is several times shorter.
  await admin.query(`ALTER DATABASE ${name} SET synchronous_commit = off`)
  const pool = new pg.Pool({ connectionString: url, max: connections })
  pool.on('error', () => undefined)
  const drop = async () => {
    await pool.end()
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`)
    await admin.end()
  }
  return { pool, url, drop }
}

/** A pool on a database of its own, and the way to be rid of both. */
export async function mysqlPool(connections = 8) {
  const { name, url } = fresh(mysqlUrl)
  const admin = await mysql.createConnection(mysqlUrl)
  await admin.query(`CREATE DATABASE ${name}`)
  const pool = mysql.createPool({ uri: url, connectionLimit: connections })
  const drop = async () => {
    await pool.end()
    await admin.query(`DROP DATABASE ${name}`)
    await admin.end()
  }
  return { pool, url, drop }
}

function fresh(base: string): { name: string; url: string } {
  const name = `totp_kit_${process.pid}_${Math.random().toString(36).slice(2, 10)}`
  const url = new URL(base)
  url.pathname = `/${name}`
  return { name, url: url.href }
}
