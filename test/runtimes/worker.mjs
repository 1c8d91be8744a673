/**
 * A Worker on Cloudflare's runtime with a D1 database: the endpoints as a host mounts them, the promises of `TotpStore`, and
 * single calls of the store for races between requests.
 */
import { fetchTotp } from '../../dist/adapters/fetch.js'
import { createTotp } from '../../dist/index.js'
import { jwtTokens } from '../../dist/jwt/index.js'
import { d1Store } from '../../dist/store/d1.js'
import { storeCases } from '../../dist/testing/index.js'

const ada = { id: '1', email: 'ada@example.com' }

/** Made by the first request: a Worker must not ask a database, nor for randomness, before there is one. */
let endpoints
async function endpointsOn(env) {
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey: env.TOTP_ENCRYPTION_KEY,
    store: d1Store(env.DB),
    findUser: (id) => (id === ada.id ? ada : null),
  })
  const tokens = jwtTokens(totp, {
    authenticate: (username, password) => (username === 'ada' && password === 'correct horse' ? ada.id : null),
  })
  return fetchTotp(totp, {
    jwt: tokens,
    async caller(request) {
      const token = await tokens.verifyAccessToken(request.headers.get('authorization') ?? '')
      return token && { ...token, accountName: ada.email }
    },
    clientAddress: (request) => request.headers.get('cf-connecting-ip'),
  })
}

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url)
    const [, route, index] = pathname.split('/')
    switch (route) {
      case 'case':
        return Response.json(await failureOf(storeCases[index], `case_${index}_`, env))
      case 'store': {
        const { operation, parameters } = await request.json()
        const answer = await d1Store(env.DB)[operation](...parameters)
        return Response.json(answer ?? null)
      }
      default:
        try {
          endpoints ??= await endpointsOn(env)
        } catch (error) {
          return new Response(error.message, { status: 500 })
        }
        return endpoints(request)
    }
  },
}

/** Each case has tables of its own. */
async function failureOf({ run }, prefix, env) {
  try {
    await run(async () => {
      const store = d1Store(env.DB, { prefix })
      await store.migrate()
      return store
    })
    return null
  } catch (error) {
    return String(error?.stack ?? error)
  }
}
