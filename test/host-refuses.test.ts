import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { createTotp, generateFernetKey, TotpError } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { createHandle } from 'totp-kit/http'
import { jwtTokens } from 'totp-kit/jwt'
import { nodeTotp } from 'totp-kit/node'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, onTestFinished, test } from 'vitest'

const NOON = 1_800_000_000
const MAX_AGE = { maxAgeSeconds: 300 }

type Call = (method: string, path: string, body?: object) => Promise<Response>
type Hook = 'caller' | 'onVerified' | 'findUser' | 'authenticate'

/** A service with Ann, whose 2FA is on, and a host that throws `thrown.error` out of the hook `thrown.out`. */
async function service() {
  const thrown: { out: Hook | null; error: unknown } = { out: null, error: null }
  const operator: unknown[] = []
  const hook =
    <T>(name: Hook, value: T) =>
    () => {
      if (thrown.out === name) throw thrown.error
      return value
    }
  const clock = fakeClock(NOON)
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    clock: clock.now,
    findUser: hook('findUser', 'Ann'),
    onError: (error) => operator.push(error),
  })
  const phone = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
  await totp.confirmTotpSetup('ann', phone.codeAt(NOON))
  clock.advance(30)
  const options = {
    caller: hook('caller', { id: 'ann', accountName: 'ann' }),
    onVerified: hook('onVerified', undefined),
    jwt: jwtTokens(totp, { authenticate: async () => hook('authenticate', 'ann')() }),
  }
  return { totp, thrown, operator, options, clock, phone }
}

type Service = Awaited<ReturnType<typeof service>>

async function listening(listener: RequestListener): Promise<Call> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return (method, path, body) => fetch(`${origin}${path}`, init(method, body))
}

const init = (method: string, body?: object): RequestInit => ({
  method,
  ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
})

const doors: { name: string; open(service: Service): Promise<Call> }[] = [
  {
    name: 'Express',
    async open({ totp, options }) {
      const app = express()
      const twoFactor = expressTotp(totp, options)
      app.use('/api', twoFactor)
      app.get('/vault', twoFactor.require(MAX_AGE), (_request, response) => void response.send('gold'))
      return listening(app)
    },
  },
  {
    name: 'node:http',
    async open({ totp, options }) {
      const endpoints = nodeTotp(totp, options)
      const guard = endpoints.require(MAX_AGE)
      return listening((request, response) =>
        request.url === '/vault'
          ? guard(request, response, () => void response.end('gold'))
          : endpoints(request, response),
      )
    },
  },
  {
    name: 'Fetch',
    async open({ totp, options }) {
      const endpoints = fetchTotp(totp, { ...options, clientAddress: () => '127.0.0.1' })
      const guard = endpoints.require(MAX_AGE, () => new Response('gold'))
      return async (method, path, body) =>
        (path === '/vault' ? guard : endpoints)(new Request(`http://service.test${path}`, init(method, body)))
    },
  },
  {
    name: 'createHandle',
    async open({ totp, options }) {
      const handle = createHandle(totp, { ...options, clientAddress: () => '127.0.0.1' })
      return async (method, path, body) => {
        const headers: Record<string, string> = body ? { 'content-type': 'application/json' } : {}
        const request = { method, path: path.replace(/^\/api/, ''), headers, body: { parsed: body } }
        const reply = path === '/vault' ? await handle.require(MAX_AGE, null) : await handle(request, null)
        return new Response(reply?.body ?? null, { status: reply?.status ?? 404, headers: reply?.headers ?? {} })
      }
    },
  },
]

/** A call that gets as far as each hook. */
const calls: Record<string, { hook: Hook; call: (call: Call, service: Service) => Promise<Response> }> = {
  'caller, at an endpoint': { hook: 'caller', call: (call) => call('GET', '/api/totp/status/') },
  'caller, at the guard': { hook: 'caller', call: (call) => call('GET', '/vault') },
  onVerified: {
    hook: 'onVerified',
    call: (call, { clock, phone }) => call('POST', '/api/totp/verify/', { otp_code: phone.codeAt(clock.now()) }),
  },
  authenticate: {
    hook: 'authenticate',
    call: (call) => call('POST', '/api/jwt/create/', { username: 'ann', password: 'correct horse' }),
  },
  findUser: {
    hook: 'findUser',
    async call(call, { totp, clock, phone }) {
      const totp_challenge_token = await totp.generateChallengeToken('ann')
      return call('POST', '/api/jwt/totp/verify/', { totp_challenge_token, otp_code: phone.codeAt(clock.now()) })
    },
  },
}

for (const { name, open } of doors) {
  describe(`through ${name}, what the host throws out of`, () => {
    test.each(Object.entries(calls))(
      '%s is a 401 when it is "unauthenticated", and a 503 otherwise',
      async (_, how) => {
        const host = await service()
        const call = await open(host)
        const { thrown, operator } = host
        thrown.out = how.hook

        thrown.error = new TotpError('unauthenticated')
        const refused = await how.call(call, host)
        assert.equal(refused.status, 401)
        assert.equal(refused.headers.get('content-type'), 'application/problem+json')
        assert.equal(refused.headers.get('www-authenticate'), 'Bearer')
        assert.equal(((await refused.json()) as { code: string }).code, 'unauthenticated')
        assert.deepEqual(operator, [], 'an expired token is no news for the operator')

        host.clock.advance(30)
        thrown.error = new Error('the session database said: password 42 is wrong')
        const failed = await how.call(call, host)
        const body = await failed.text()
        assert.deepEqual([failed.status, JSON.parse(body).code], [503, 'unavailable'])
        assert.doesNotMatch(body, /password/)
        assert.deepEqual(operator, [thrown.error])
      },
    )
  })
}
