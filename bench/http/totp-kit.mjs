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
import { GUARDED, preparer } from './prepare.mjs'
import { config, serve } from './server-process.mjs'

/**
 * The parts of the service; the limit uses them as well, to prepare its users and to record what is sent.
 *
 * @param connection - to the database; default: one of its own
 */
export async function openTotp({ database, encryptionKey, at }, connection) {
  const clock = fakeClock(at)
  const store = await storeOn(database, connection)
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

async function storeOn({ kind, url }, connection) {
  if (kind === 'sqlite') return sqliteStore(connection ?? (await openSqlite(url)))
  if (kind === 'postgres') return postgresStore(connection ?? new pg.Pool({ connectionString: url }))
  return mysqlStore(connection ?? mysql.createPool(url))
}

/** Endpoints, and a handler of the host's behind the guard. */
export function handlersOf(totp, tokens) {
  const callerOf = async ({ headers }) => {
    const caller = await tokens.verifyAccessToken(headers.authorization)
    return caller && { ...caller, accountName: `${caller.id}@example.com` }
  }
  const endpoints = nodeTotp(totp, { caller: callerOf, jwt: tokens })
  return {
    callerOf,
    async node(request, response) {
      if (request.url !== GUARDED) return endpoints(request, response)
      try {
        await totp.requireFresh(await callerOf(request), { maxAgeSeconds: 86_400 })
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': 2 })
        response.end('{}')
      } catch (error) {
        response.writeHead(error.status ?? 500)
        response.end(String(error))
      }
    },
  }
}

export const moverOf = (clock) => (at) => clock.advance(Math.max(0, at - clock.now()))

if (config.server === 'totp-kit') {
  const { totp, tokens, clock, prepare } = await openTotp(config)
  const { callerOf, node } = handlersOf(totp, tokens)
  const byFetch = fetchTotp(totp, {
    caller: (request) => callerOf({ headers: Object.fromEntries(request.headers) }),
    clientAddress: () => '127.0.0.1',
    jwt: tokens,
  })
  const byExpress = express()
  byExpress.disable('x-powered-by')
  byExpress.use('/api', expressTotp(totp, { caller: callerOf, jwt: tokens }))
  await serve({
    handlers: { node, fetch: bridge(byFetch), express: byExpress },
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
