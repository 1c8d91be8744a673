/** totp-kit as a host uses it: its endpoints through three adapters, callers known by their access token. */
import express from 'express'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { expressTotp } from '../../dist/adapters/express.js'
import { fetchTotp } from '../../dist/adapters/fetch.js'
import { nodeTotp } from '../../dist/adapters/node.js'
import { createTotp } from '../../dist/index.js'
import { jwtTokens } from '../../dist/jwt/index.js'
import { mysqlStore } from '../../dist/store/mysql.js'
import { postgresStore } from '../../dist/store/postgres.js'
import { sqliteStore } from '../../dist/store/sqlite.js'
import { fakeClock } from '../../dist/testing/index.js'
import { openSqlite } from '../databases.mjs'
import { preparer } from './prepare.mjs'
import { config, serve } from './server-process.mjs'

/** The parts of the service; the limit uses them as well, to prepare its users. */
export async function openTotp({ database, encryptionKey, at }) {
  const clock = fakeClock(at)
  const store = await storeOn(database)
  await store.migrate()
  const totp = await createTotp({
    issuer: 'Bench',
    encryptionKey,
    store,
    clock: clock.now,
    challengeTokenSeconds: 3600,
    // Calls are counted, as in any service, and never refused.
    rateLimit: '1000000/d',
  })
  const tokens = jwtTokens(totp, { authenticate: async () => null, accessTokenSeconds: 86_400 })
  return { totp, tokens, clock, prepare: preparer(totp, tokens, clock) }
}

async function storeOn({ kind, url }) {
  if (kind === 'sqlite') return sqliteStore(await openSqlite(url))
  if (kind === 'postgres') return postgresStore(new pg.Pool({ connectionString: url }))
  return mysqlStore(mysql.createPool(url))
}

export const moverOf = (clock) => (at) => clock.advance(Math.max(0, at - clock.now()))

if (config.server === 'totp-kit') {
  const { totp, tokens, clock, prepare } = await openTotp(config)
  const callerOf = async (authorization) => {
    const caller = await tokens.verifyAccessToken(authorization)
    return caller && { ...caller, accountName: `${caller.id}@example.com` }
  }
  const jwt = tokens
  const byFetch = fetchTotp(totp, {
    caller: (request) => callerOf(request.headers.get('authorization') ?? undefined),
    clientAddress: () => '127.0.0.1',
    jwt,
  })
  const byExpress = express()
  byExpress.disable('x-powered-by')
  byExpress.use('/api', expressTotp(totp, { caller: (request) => callerOf(request.headers.authorization), jwt }))
  await serve({
    handlers: {
      node: nodeTotp(totp, { caller: (request) => callerOf(request.headers.authorization), jwt }),
      fetch: bridge(byFetch),
      express: byExpress,
    },
    async prepare(work, count) {
      return { requests: await prepare(work, count), at: clock.now() }
    },
    moveClock: moverOf(clock),
  })
}

/** A thin bridge from `node:http` to a Fetch handler: no more than a `Request` and a `Response` need. */
function bridge(handler) {
  return async (incoming, outgoing) => {
    const { method, url } = incoming
    const chunks = []
    for await (const chunk of incoming) chunks.push(chunk)
    const body = method === 'GET' ? undefined : Buffer.concat(chunks)
    const headers = { ...incoming.headers }
    const response = await handler(new Request(`http://127.0.0.1${url}`, { method, headers, body }))
    const bytes = Buffer.from(await response.arrayBuffer())
    outgoing.writeHead(response.status, { ...Object.fromEntries(response.headers), 'content-length': bytes.length })
    outgoing.end(bytes)
  }
}
