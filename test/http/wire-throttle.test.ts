import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express from 'express'
import { createTotp, generateFernetKey, type Totp } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { jwtTokens } from 'totp-kit/jwt'
import { nodeTotp } from 'totp-kit/node'
import { memoryStore } from 'totp-kit/store/memory'
import { describe, expect, onTestFinished, test } from 'vitest'
import { enroll, logIn } from './actors.ts'
import { waitIn } from './answer.ts'
import { EXPRESS, EXPRESS_WITH_PARSERS, FETCH, fronts, NODE, type Service, startService } from './harness.ts'
import { rows } from './rows.ts'

/** Whatever takes a code, a password or work. */
const throttled = rows.filter(({ operationId }) =>
  /^(create|confirm|disable|rotate|remove|request|cancel|verifySecond|answer)/.test(operationId),
)
const unthrottled = rows.filter((row) => !throttled.includes(row))

const tenAMinute = { rateLimit: '10/minute', tokens: { accessTokenSeconds: 3600 } }
const badLogin = { username: 'nobody-here', password: 'wrong horse' }

/** Ten wrong logins from an address, and what an eleventh is answered. */
async function eleventh(service: Service, addresses: (n: number) => string): Promise<string> {
  const from = (n: number) => ({ 'x-forwarded-for': addresses(n) })
  for (let n = 0; n < 10; n++) {
    const { outcome } = await service.call({ path: 'jwt/create/', json: badLogin, headers: from(n) })
    expect(outcome).toBe('401 invalid_credentials')
  }
  return (await service.call({ path: 'jwt/create/', json: badLogin, headers: from(10) })).outcome
}

describe.each(fronts)('$name: the rate of calls', (front) => {
  test.each(throttled)('$path is counted, refused calls and malformed ones too', async ({ path, caller, method }) => {
    const service = await startService(front, tenAMinute)
    const bearer = caller ? (await logIn(service, service.register('alice'))).access : undefined
    // The login above is one of the ten.
    const before = path === 'jwt/create' && caller ? 1 : 0
    for (let n = before; n < 10; n++) {
      const answer = await service.call({ method, path, bearer, json: n % 2 ? { input_code: '000000' } : [] })
      expect(answer.outcome).not.toBe('429 throttled')
    }
    service.clock.advance(20)
    const answer = await service.call({ method, path, bearer })
    expect(answer.outcome).toBe('429 throttled')
    expect(waitIn(answer)).toEqual({
      retryAfterSeconds: 40,
      remaining: 0,
      resetSeconds: 40,
      quota: 10,
      windowSeconds: 60,
    })
    service.clock.advance(39)
    expect((await service.call({ method, path, bearer })).outcome).toBe('429 throttled')
    service.clock.advance(1)
    expect((await service.call({ method, path, bearer })).outcome).not.toBe('429 throttled')
  })

  test('is not asked of what takes no code, no password and no work', async () => {
    const service = await startService(front, tenAMinute)
    const { access } = await logIn(service, service.register('alice'))
    for (const { method, path, caller, required } of unthrottled) {
      for (let n = 0; n < 12; n++) {
        const json = method === 'GET' ? undefined : required
        const answer = await service.call({ method, path, json, bearer: caller ? access : undefined })
        expect(answer.status).not.toBe(429)
      }
    }
  })

  test('is counted per user and endpoint where somebody is logged in', async () => {
    const service = await startService(front, tenAMinute)
    const alice = await logIn(service, service.register('alice'))
    const again = await logIn(service, {
      id: '1',
      username: 'alice',
      email: '',
      password: 'correct horse battery staple',
    })
    const bob = await logIn(service, service.register('bob'))
    for (let n = 0; n < 10; n++) await service.post('totp/create/', undefined, alice.access)
    expect((await service.post('totp/create/', undefined, alice.access)).outcome).toBe('429 throttled')
    expect((await service.post('totp/create/', undefined, again.access)).outcome).toBe('429 throttled')
    expect((await service.post('totp/create', undefined, alice.access)).outcome).toBe('429 throttled')
    expect((await service.post('totp/create/', undefined, bob.access)).outcome).toBe('201')
    expect((await service.post('totp/disable/', undefined, alice.access)).outcome).toBe('204')
  })

  test('refuses a right code unspent', async () => {
    const service = await startService(front, tenAMinute)
    const { session, phone } = await enroll(service)
    service.clock.advance(30)
    for (let n = 0; n < 10; n++) await service.post('totp/verify/', {}, session.access)
    const otp_code = phone.codeAt(service.clock.now())
    expect((await service.post('totp/verify/', { otp_code }, session.access)).outcome).toBe('429 throttled')
    service.clock.advance(60)
    const next = { otp_code: phone.codeAt(service.clock.now()) }
    expect((await service.post('totp/verify/', next, session.access)).outcome).toBe('200')
  })

  test('may be counted in the store; while it cannot count, the call is refused', async () => {
    const service = await startService(front, { ...tenAMinute, rateLimitStorage: 'store' })
    service.broken.add('countCall')
    expect((await service.post('jwt/create/', badLogin)).outcome).toBe('503 unavailable')
    service.broken.clear()
    for (let n = 0; n < 10; n++) {
      expect((await service.post('jwt/create/', badLogin)).outcome).toBe('401 invalid_credentials')
    }
    service.clock.advance(20)
    const answer = await service.post('jwt/create/', badLogin)
    expect(answer.outcome).toBe('429 throttled')
    expect(waitIn(answer)).toMatchObject({ retryAfterSeconds: 40, resetSeconds: 40, quota: 10, windowSeconds: 60 })
    service.clock.advance(40)
    expect((await service.post('jwt/create/', badLogin)).outcome).toBe('401 invalid_credentials')
  })

  test('off counts nothing', async () => {
    const service = await startService(front, { rateLimit: 'off' })
    for (let n = 0; n < 25; n++) {
      expect((await service.post('jwt/create/', badLogin)).outcome).toBe('401 invalid_credentials')
    }
  })
})

describe.each([NODE, EXPRESS, EXPRESS_WITH_PARSERS])('$name: an anonymous caller', (front) => {
  test('is the address of the socket: what X-Forwarded-For says changes nothing', async () => {
    const service = await startService(front, tenAMinute)
    expect(await eleventh(service, (n) => `203.0.113.${n}`)).toBe('429 throttled')
  })

  test('behind a trusted proxy is the address that the proxy names', async () => {
    const service = await startService(front, { ...tenAMinute, behindProxy: true })
    expect(await eleventh(service, (n) => `203.0.113.${n}`)).toBe('401 invalid_credentials')
    expect(await eleventh(service, () => '198.51.100.7')).toBe('429 throttled')
    expect(await eleventh(service, (n) => `192.0.2.${n}, 198.51.100.8`)).toBe('429 throttled')
  })

  test('behind a trusted proxy that passes garbage on is the address of the socket', async () => {
    const service = await startService(front, { ...tenAMinute, behindProxy: true })
    const garbage = ['', 'unknown', '1.2.3', '999.1.1.1', 'x'.repeat(4000), '203.0.113.9:5000', '::g', ',,,', '%', '-1']
    expect(await eleventh(service, (n) => garbage[n] ?? `_hidden${n}`)).toBe('429 throttled')
  })
})

describe.each([NODE, EXPRESS, FETCH])('$name: an IPv6 network', (front) => {
  test('is one caller per /64', async () => {
    const service = await startService(front, { ...tenAMinute, behindProxy: true })
    expect(await eleventh(service, (n) => `2001:db8:0:${n}::1`)).toBe('401 invalid_credentials')
    expect(await eleventh(service, (n) => `2001:db8:1:1:${n}::${n}`)).toBe('429 throttled')
  })

  test('in which an IPv4 address is wrapped is that address', async () => {
    const service = await startService(front, { ...tenAMinute, behindProxy: true })
    expect(await eleventh(service, (n) => `::ffff:203.0.113.${n}`)).toBe('401 invalid_credentials')
    const spellings = ['::ffff:198.51.100.7', '198.51.100.7', '::ffff:c633:6407', '::FFFF:C633:6407']
    expect(await eleventh(service, (n) => String(spellings[n % 4]))).toBe('429 throttled')
  })
})

describe('behind a proxy on a Unix-domain socket', () => {
  const service = async () => {
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
    return { totp, options: { caller: () => null, jwt: jwtTokens(totp, { authenticate: async () => null }) } }
  }
  type Options = Awaited<ReturnType<typeof service>>['options']
  const fronts = [
    {
      name: 'node:http',
      trusting: (totp: Totp, options: Options) => nodeTotp(totp, { ...options, trustedProxies: ['unix'] }),
      trustingNobody: (totp: Totp, options: Options) => nodeTotp(totp, options),
    },
    {
      name: 'Express',
      trusting: (totp: Totp, options: Options) =>
        express().set('trust proxy', 1).use('/api', expressTotp(totp, options)),
      trustingNobody: (totp: Totp, options: Options) => express().use('/api', expressTotp(totp, options)),
    },
  ]

  /** How many of 15 log-ins, each by another client, are judged. */
  async function judged(listener: RequestListener): Promise<number> {
    const folder = mkdtempSync(join(tmpdir(), 'totp-kit-'))
    const socketPath = join(folder, 'app.sock')
    const server = createServer(listener)
    await new Promise<void>((resolve) => server.listen(socketPath, resolve))
    onTestFinished(() => {
      server.close()
      rmSync(folder, { recursive: true, force: true })
    })
    const statusFor = (client: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        const headers = { 'content-type': 'application/json', 'x-forwarded-for': client }
        const call = request({ socketPath, path: '/api/jwt/create/', method: 'POST', agent: false, headers })
        call.on('error', reject)
        call.on('response', (response) => response.resume().on('end', () => resolve(response.statusCode)))
        call.end(JSON.stringify(badLogin))
      })
    const statuses = []
    for (let n = 0; n < 15; n++) statuses.push(await statusFor(`192.0.2.${n}, 203.0.113.${n}`))
    return statuses.filter((status) => status === 401).length
  }

  test.each(fronts)('$name: each client is counted by itself where the socket is trusted', async ({ trusting }) => {
    const { totp, options } = await service()
    expect(await judged(trusting(totp, options))).toBe(15)
  })

  test.each(fronts)('$name: all clients are counted together where it is not', async ({ trustingNobody }) => {
    const { totp, options } = await service()
    expect(await judged(trustingNobody(totp, options))).toBe(10)
  })
})

describe('Fetch: an address that the platform states', () => {
  const judged = async (addressOf: (n: number) => string) => {
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
    const jwt = jwtTokens(totp, { authenticate: async () => null })
    let n = 0
    const handler = fetchTotp(totp, { caller: () => null, jwt, clientAddress: () => addressOf(n) })
    const statuses = []
    const headers = { 'content-type': 'application/json' }
    for (; n < 15; n++) {
      const init = { method: 'POST', headers, body: JSON.stringify(badLogin) }
      statuses.push((await handler(new Request('http://service.test/api/jwt/create/', init))).status)
    }
    return statuses.filter((status) => status === 401).length
  }

  test.each([
    ['a port', (n: number) => `203.0.113.7:${2000 + n}`],
    ['a port, of IPv6', (n: number) => `[2001:db8::1]:${2000 + n}`],
    ['a whole X-Forwarded-For', (n: number) => `192.0.2.${n}, 203.0.113.7`],
    ['any text', (n: number) => `client ${n}`],
  ])('is one caller whatever the client varies: %s', async (_what, addressOf) => {
    expect(await judged(addressOf)).toBe(10)
  })

  test.each([
    ['bare', (n: number) => `203.0.113.${n}`],
    ['with a port', (n: number) => `203.0.113.${n}:80`],
    ['of IPv6 with a port', (n: number) => `[2001:db8:0:${n}::1]:80`],
  ])('is a caller of its own: %s', async (_how, addressOf) => {
    expect(await judged(addressOf)).toBe(15)
  })
})

describe('the rate limit belongs to the service', () => {
  const service = () => createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
  const options = { caller: () => ({ id: '1', accountName: 'alice' }), clientAddress: () => null }
  const served = async (handlers: ((request: Request) => Promise<Response>)[]) => {
    const answers: Response[] = []
    for (const handler of handlers) {
      answers.push(await handler(new Request('http://service.test/api/totp/create/', { method: 'POST' })))
    }
    return answers.filter(({ status }) => status !== 429).length
  }

  test('a handler that is made for each request shares its counts with the others', async () => {
    const totp = await service()
    expect(await served(Array.from({ length: 30 }, () => fetchTotp(totp, options)))).toBe(10)
  })

  test('handlers of two services count apart', async () => {
    const [one, other] = [fetchTotp(await service(), options), fetchTotp(await service(), options)]
    expect(await served([...Array<typeof one>(15).fill(one), ...Array<typeof one>(15).fill(other)])).toBe(20)
  })
})

describe('by default', () => {
  test('ten calls a minute are served, and clients of unknown address are counted together', async () => {
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
    const caller = () => ({ id: '1', accountName: 'alice' })
    const handler = fetchTotp(totp, { caller, clientAddress: () => null })
    const statuses: number[] = []
    for (let n = 0; n < 11; n++) {
      const { status } = await handler(new Request('http://service.test/api/totp/create/', { method: 'POST' }))
      statuses.push(status)
    }
    expect(statuses).toEqual([...Array<number>(10).fill(201), 429])
  })
})
