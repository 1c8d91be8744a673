import express, { type Express, type Request } from 'express'
import session from 'express-session'
import { jwtVerify, SignJWT } from 'jose'
import { type Caller, createTotp, generateFernetKey, type Proof, type Totp } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { createHandle } from 'totp-kit/http'
import { jwtTokens } from 'totp-kit/jwt'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, type FakeClock, fakeClock } from 'totp-kit/testing'
import { describe, expect, onTestFinished, test } from 'vitest'
import { listen } from './http/harness.ts'

/** The beginning of a time step. */
const NOON = 1_800_000_000
const MAX_AGE = 300

interface Answer {
  status: number
  body: Record<string, unknown>
}

/** A client of a host: it keeps what the host gives it, as an app or a browser does. */
interface Client {
  /** Logs in with the password only; `challenge` where a code is asked for. */
  logIn(): Promise<{ challenge: string | null }>
  answer(challenge: string, code: string): Promise<void>
  post(path: string, body?: object): Promise<Answer>
  get(path: string): Promise<Answer>
  /** Renews what expires; nothing where nothing does. */
  refresh(): Promise<void>
}

interface Host {
  clock: FakeClock
  client: Client
}

async function service(): Promise<{ totp: Totp; clock: FakeClock }> {
  const clock = fakeClock(NOON)
  const store = await sqliteStore(':memory:')
  const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store, clock: clock.now })
  onTestFinished(() => totp.close())
  return { totp, clock }
}

async function serve(app: Express): Promise<(path: string, init: RequestInit) => Promise<Response>> {
  const { send, close } = await listen(app)
  onTestFinished(close)
  return send
}

async function answerOf(response: Response): Promise<Answer> {
  const text = await response.text()
  return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : {} }
}

const jsonOf = (body: object): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

/** The quick start: our JWT module. */
async function withOurTokens(): Promise<Host> {
  const { totp, clock } = await service()
  const jwt = jwtTokens(totp, { authenticate: async (username) => username })
  const app = express()
  const twoFactor = expressTotp(totp, {
    jwt,
    async caller(request): Promise<Caller | null> {
      const token = await jwt.verifyAccessToken(request.headers.authorization)
      return token && { ...token, accountName: 'ann@example.com' }
    },
  })
  app.use('/api', twoFactor)
  app.get('/vault', twoFactor.require({ maxAgeSeconds: MAX_AGE }), (_request, response) => void response.json({}))
  const send = await serve(app)
  let tokens: Record<string, unknown> = {}
  const keep = (answer: Answer) => {
    if (typeof answer.body.access === 'string') tokens = answer.body
    return answer
  }
  const call = async (path: string, { headers, ...init }: RequestInit) =>
    keep(
      await answerOf(await send(path, { ...init, headers: { ...headers, authorization: `Bearer ${tokens.access}` } })),
    )
  return {
    clock,
    client: {
      async logIn() {
        const { body } = await call('/api/jwt/create/', jsonOf({ username: 'ann', password: 'right' }))
        return { challenge: (body.totp_challenge_token as string | undefined) ?? null }
      },
      async answer(totp_challenge_token, otp_code) {
        expect((await call('/api/jwt/totp/verify/', jsonOf({ totp_challenge_token, otp_code }))).status).toBe(200)
      },
      post: (path, body = {}) => call(path, jsonOf(body)),
      get: (path) => call(path, {}),
      async refresh() {
        expect((await call('/api/jwt/refresh/', jsonOf({ refresh: tokens.refresh }))).status).toBe(200)
      },
    },
  }
}

declare module 'express-session' {
  interface SessionData {
    userId: string
    amr: readonly string[]
    verifiedAt: number | null
    generation: number
  }
}

/** express-session: the cookie stays, and the session behind it is raised. */
async function withSessions(): Promise<Host> {
  const { totp, clock } = await service()
  const app = express()
  app.use(session({ secret: 'keyboard cat', resave: false, saveUninitialized: false }))
  const begin = ({ session }: Request, { userId, amr, verifiedAt, generation }: Proof) =>
    void Object.assign(session, { userId, amr, verifiedAt: amr.includes('mfa') ? verifiedAt : null, generation })
  const twoFactor = expressTotp(totp, {
    caller({ session, sessionID: sessionId }) {
      const { userId, amr, verifiedAt, generation } = session
      return userId && { id: userId, accountName: 'ann@example.com', amr, verifiedAt, generation, sessionId }
    },
    onVerified: ({ verifiedAt, generation }, { session }) => void Object.assign(session, { verifiedAt, generation }),
  })
  app.post('/login', async (request, response) => {
    const login = await totp.startLogin('ann')
    if (login.status === 'complete') begin(request, login.proof)
    response.json({ challenge: login.status === 'challenge' ? login.challengeToken : null })
  })
  app.post('/login/code', express.json(), async (request, response) => {
    begin(request, await totp.answerChallenge(request.body.challenge, request.body.code))
    response.json({})
  })
  app.use('/api', twoFactor)
  app.get('/vault', twoFactor.require({ maxAgeSeconds: MAX_AGE }), (_request, response) => void response.json({}))
  app.use(twoFactor.errors)
  const send = await serve(app)
  let cookie = ''
  const call = async (path: string, { headers, ...init }: RequestInit) => {
    const response = await send(path, { ...init, headers: { ...headers, cookie } })
    cookie = response.headers.get('set-cookie')?.split(';')[0] ?? cookie
    return answerOf(response)
  }
  return {
    clock,
    client: {
      async logIn() {
        const { challenge } = (await call('/login', { method: 'POST' })).body
        return { challenge: challenge as string | null }
      },
      async answer(challenge, code) {
        expect((await call('/login/code', jsonOf({ challenge, code }))).status).toBe(200)
      },
      post: (path, body = {}) => call(path, jsonOf(body)),
      get: (path) => call(path, {}),
      refresh: async () => undefined,
    },
  }
}

/** A JWT of the host's own, over `handle` and without a framework: what `onVerified` returns comes with the answer. */
async function withOwnTokens(): Promise<Host> {
  const { totp, clock } = await service()
  const key = new TextEncoder().encode('a secret of the host, of 32 bytes')
  const sign = ({ userId, amr, verifiedAt, generation }: Pick<Proof, 'userId' | 'amr' | 'verifiedAt' | 'generation'>) =>
    new SignJWT({ amr: [...amr], verifiedAt: amr.includes('mfa') ? verifiedAt : null, generation })
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject(userId)
      .sign(key)
  interface Context {
    token: string | undefined
  }
  const handle = createHandle<Context>(totp, {
    async caller({ token }) {
      if (token === undefined) return null
      const { payload } = await jwtVerify(token, key)
      const { sub: id = '', amr, verifiedAt, generation } = payload as Record<string, never> & { sub?: string }
      return { id, accountName: 'ann@example.com', amr, verifiedAt, generation }
    },
    onVerified: async (proof) => ({ token: await sign(proof) }),
  })
  let token: string | undefined
  const call = async (method: string, path: string, body: object = {}): Promise<Answer> => {
    const context = { token }
    const reply =
      path === '/vault'
        ? ((await handle.require({ maxAgeSeconds: MAX_AGE }, context)) ?? { status: 200, body: '{}' })
        : await handle({ method, path: path.replace('/api', ''), headers: {}, body: { parsed: body } }, context)
    const answered = JSON.parse(reply?.body ?? '{}')
    token = answered.token ?? token
    return { status: reply?.status ?? 404, body: answered }
  }
  return {
    clock,
    client: {
      async logIn() {
        const login = await totp.startLogin('ann')
        if (login.status === 'complete') token = await sign(login.proof)
        return { challenge: login.status === 'challenge' ? login.challengeToken : null }
      },
      async answer(challenge, code) {
        token = await sign(await totp.answerChallenge(challenge, code))
      },
      post: (path, body) => call('POST', path, body),
      get: (path) => call('GET', path),
      refresh: async () => undefined,
    },
  }
}

/** Ann, who has just confirmed. */
async function enroll({ client, clock }: Host) {
  expect(await client.logIn()).toEqual({ challenge: null })
  const { body } = await client.post('/api/totp/create/')
  const phone = authenticatorFor(String(body.uri))
  const confirmed = await client.post('/api/totp/confirm/', { input_code: phone.codeAt(clock.now()) })
  expect(confirmed.status).toBe(200)
  const nextCode = () => {
    clock.advance(30)
    return phone.codeAt(clock.now())
  }
  return { nextCode, backupCodes: confirmed.body.backup_codes as string[] }
}

describe.each([
  ['our JWT module', withOurTokens],
  ['express-session', withSessions],
  ["a JWT of the host's own", withOwnTokens],
])('with %s', (_name, start) => {
  const vault = async ({ client }: Host) => {
    const { status, body } = await client.get('/vault')
    return status === 200 ? 200 : body.code
  }

  test('who has just confirmed opens the guarded route and the backup codes, without a second code', async () => {
    const host = await start()

    const { backupCodes } = await enroll(host)

    expect(await vault(host)).toBe(200)
    const viewed = await host.client.get('/api/totp/backup_codes/')
    expect((viewed.body.backup_codes as { code: string }[]).map(({ code }) => code)).toEqual(backupCodes)
  })

  test('a step-up opens the guarded route for as long as it says, refreshes in between', async () => {
    const host = await start()
    const { client, clock } = host
    const { nextCode } = await enroll(host)
    clock.advance(30)
    const { challenge } = await client.logIn()
    await client.answer(String(challenge), nextCode())
    expect(await vault(host)).toBe(200)
    clock.advance(MAX_AGE - 10)
    await client.refresh()
    clock.advance(11)
    expect(await vault(host)).toBe('step_up_required')

    const raised = await client.post('/api/totp/verify/', { otp_code: nextCode() })

    expect(raised).toMatchObject({ status: 200, body: { amr: ['pwd', 'otp', 'mfa'] } })
    expect(await vault(host)).toBe(200)
    await client.refresh()
    expect(await vault(host)).toBe(200)
    clock.advance(MAX_AGE - 10)
    await client.refresh()
    clock.advance(10)
    expect(await vault(host)).toBe(200)
    clock.advance(1)
    expect(await vault(host)).toBe('step_up_required')
  })

  test('a change with `input_code` raises the session too', async () => {
    const host = await start()
    const { client, clock } = host
    const { nextCode } = await enroll(host)
    for (const path of ['/api/totp/rotate_backup_codes/', '/api/totp/create/']) {
      clock.advance(MAX_AGE - 10)
      await client.refresh()
      clock.advance(30)
      expect(await vault(host)).toBe('step_up_required')

      expect((await client.post(path, { input_code: nextCode() })).status).toBeLessThan(300)

      expect(await vault(host)).toBe(200)
    }
  })

  test('a wrong code raises nothing', async () => {
    const host = await start()
    const { client, clock } = host
    await enroll(host)
    clock.advance(MAX_AGE - 10)
    await client.refresh()
    clock.advance(30)

    for (const path of ['/api/totp/rotate_backup_codes/', '/api/totp/create/']) {
      expect((await client.post(path, { input_code: 'AAAA-AAAA-AAAA-AAAA' })).body.code).toBe('invalid_code')
    }
    expect((await client.post('/api/totp/verify/', { backup_code: 'AAAA-AAAA-AAAA-AAAA' })).status).toBe(400)

    expect(await vault(host)).toBe('step_up_required')
  })
})
