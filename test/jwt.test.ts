import { createHook } from 'node:async_hooks'
import type { KeyObject } from 'node:crypto'
import fc from 'fast-check'
import { CompactSign, compactVerify, decodeJwt, generateKeyPair, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import { createTotp, generateFernetKey } from 'totp-kit'
import { createHandle } from 'totp-kit/http'
import { type JwtClaims, type JwtOptions, jwtTokens } from 'totp-kit/jwt'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, expect, test } from 'vitest'
import { createKeyring } from '../src/crypto/keyring.ts'

const NOON = 1_800_000_000
/** The proof of a confirmation is not older than the change that it made, which counts from the next second on. */
const VERIFIED_AT = NOON + 1
const AMR = ['pwd', 'otp', 'mfa']
const TYP = { access: 'at+jwt', refresh: 'rt+jwt' }

async function serviceOf(options: Partial<JwtOptions> = {}) {
  const encryptionKey = generateFernetKey()
  const clock = fakeClock(NOON)
  const errors: unknown[] = []
  const onError = (error: unknown) => void errors.push(error)
  const totp = await createTotp({ issuer: 'Acme', encryptionKey, store: memoryStore(), clock: clock.now, onError })
  const tokens = jwtTokens(totp, { authenticate: async (username) => username, ...options })
  const [key] = createKeyring([encryptionKey]).deriveMacKeys('jwt/Acme') as [KeyObject]
  const { uri } = await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })
  const { proof } = await totp.confirmTotpSetup('ann', authenticatorFor(uri).codeAt(NOON))
  if (proof === null) throw new Error('no proof')
  const issue = () => tokens.issueTokens(proof)
  const accepts = async (access: string) => (await tokens.verifyAccessToken(`Bearer ${access}`)) !== null
  return { clock, tokens, key, totp, issue, accepts, errors }
}

/** As every token was signed while this was done by jose: the same header, key and claims. */
const joseSigned = (key: KeyObject, claims: JWTPayload, kind: 'access' | 'refresh') =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: TYP[kind] }).sign(key)

/** A signed payload that `SignJWT` would refuse to make. */
const textSigned = (key: KeyObject, payload: string) =>
  new CompactSign(Buffer.from(payload)).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt' }).sign(key)

describe('a token of the session', () => {
  test('that jose signs with the same claims is accepted', async () => {
    const { tokens, key, issue } = await serviceOf()
    const { access, refresh } = await issue()
    const claims = { access: decodeJwt(access), refresh: decodeJwt(refresh) }

    expect(await joseSigned(key, claims.access, 'access')).toBe(access)
    const aged = { ...claims.access, iat: NOON - 100, exp: NOON + 1 }
    const bearer = await tokens.verifyAccessToken(`Bearer ${await joseSigned(key, aged, 'access')}`)
    expect(bearer).toEqual({
      id: 'ann',
      amr: AMR,
      authTime: VERIFIED_AT,
      verifiedAt: VERIFIED_AT,
      generation: claims.access.gen,
      sessionId: claims.access.sid,
    })
    const longer = { ...claims.refresh, exp: NOON + 1_000_000 }
    expect(await tokens.refreshTokens(await joseSigned(key, longer, 'refresh'))).toHaveProperty('access')
  })

  test.each(['access', 'refresh'] as const)('is verified by jose, with all its claims: $0', async (kind) => {
    const { key, issue } = await serviceOf()
    const token = (await issue())[kind]

    const checks = { algorithms: ['HS256'], typ: TYP[kind], issuer: 'Acme', currentDate: new Date(NOON * 1000) }
    const { payload, protectedHeader } = await jwtVerify(token, key, checks)

    expect(protectedHeader).toEqual({ alg: 'HS256', typ: TYP[kind] })
    expect(payload).toEqual({
      token_type: kind,
      iss: 'Acme',
      sub: 'ann',
      jti: expect.stringMatching(/^[\w-]{22}$/),
      sid: expect.stringMatching(/^[\w-]{22}$/),
      iat: NOON,
      exp: NOON + (kind === 'access' ? 300 : 86_400),
      auth_time: VERIFIED_AT,
      amr: AMR,
      acr: 'aal2',
      gen: expect.any(Number),
    })
  })

  test('is accepted until its second of expiry and from its nbf on, by the clock of the service', async () => {
    const { clock, key, issue, accepts } = await serviceOf()
    const { access } = await issue()
    const later = await joseSigned(key, { ...decodeJwt(access), nbf: NOON + 10 }, 'access')

    expect([await accepts(access), await accepts(later)]).toEqual([true, false])
    clock.advance(9)
    expect([await accepts(access), await accepts(later)]).toEqual([true, false])
    clock.advance(1)
    expect([await accepts(access), await accepts(later)]).toEqual([true, true])
    clock.advance(289)
    expect([await accepts(access), await accepts(later)]).toEqual([true, true])
    clock.advance(1)
    expect([await accepts(access), await accepts(later)]).toEqual([false, false])
  })

  const wrongClaims: [string, unknown[]][] = [
    ['token_type', ['refresh', 'Access', '', ['access'], null]],
    ['iss', ['acme', 'Acme ', '', ['Acme'], { Acme: 1 }, null]],
    ['sub', ['', 42, ['ann'], null, true]],
    ['jti', ['', 42, null]],
    ['sid', ['', 42, ['a'], null]],
    ['iat', ['1800000000', null, [NOON], {}]],
    ['exp', ['1900000000', null, [NOON + 300], true, NOON, NOON - 1, -1, 0]],
    ['nbf', ['1700000000', null, NOON + 1, [NOON]]],
    ['auth_time', ['1800000000', null, true]],
    ['gen', ['1', 1.5, null, 2 ** 53, [1]]],
    ['amr', ['mfa', null, [1], [''], [['mfa']], { 0: 'mfa', length: 1 }]],
  ]

  test.each(wrongClaims)(
    'is refused when its %s is absent or wrong, though the signature is right',
    async (name, all) => {
      const { key, issue, accepts } = await serviceOf()
      const claims = decodeJwt((await issue()).access)
      const { [name]: _, ...rest } = claims as Record<string, unknown>

      expect(await accepts(await joseSigned(key, claims, 'access'))).toBe(true)
      if (name !== 'nbf') expect(await accepts(await joseSigned(key, rest, 'access'))).toBe(false)
      for (const wrong of all) {
        const payload = JSON.stringify({ ...claims, [name]: wrong })
        expect(await accepts(await textSigned(key, payload)), payload).toBe(false)
      }
    },
  )

  test('is refused when what is signed is no object of claims', async () => {
    const { key, issue, accepts } = await serviceOf()
    const { access } = await issue()
    const json = JSON.stringify(decodeJwt(access))

    const infinite = json.replace(/"exp":\d+/, '"exp":1e999')
    expect(infinite).not.toBe(json)
    for (const payload of [
      '',
      'null',
      '1',
      '"text"',
      '[]',
      `[${json}]`,
      `${json},`,
      `${json}x`,
      `\uFEFF${json}`,
      infinite,
    ]) {
      expect(await accepts(await textSigned(key, payload)), payload).toBe(false)
    }
    expect(await accepts(await textSigned(key, json))).toBe(true)
  })

  test('with a claim twice means the last, as to jose (RFC 7519 4)', async () => {
    const { tokens, key, issue } = await serviceOf()
    const json = JSON.stringify(decodeJwt((await issue()).access))
    const token = await textSigned(key, json.replace('"sub":', '"sub":"eve","sub":'))

    expect(decodeJwt(token).sub).toBe('ann')
    expect(await tokens.verifyAccessToken(`Bearer ${token}`)).toMatchObject({ id: 'ann' })
    expect(
      await tokens.verifyAccessToken(`Bearer ${await textSigned(key, json.replace('{', '{"exp":9e9,'))}`),
    ).not.toBeNull()
    expect(
      await tokens.verifyAccessToken(`Bearer ${await textSigned(key, json.replace(/}$/, ',"exp":1}'))}`),
    ).toBeNull()
  })

  test('is never accepted where jose refuses it, whatever its claims hold', async () => {
    const { key, issue, accepts } = await serviceOf()
    const claims = decodeJwt((await issue()).access)
    const checks = { algorithms: ['HS256'], typ: 'at+jwt', issuer: 'Acme', currentDate: new Date(NOON * 1000) }
    const requiredClaims = ['sub', 'jti', 'exp', 'sid']
    const times = fc.integer({ min: NOON - 2, max: NOON + 2 })
    const names = ['iss', 'sub', 'jti', 'sid', 'exp', 'nbf', 'iat', 'token_type']
    const values = fc.oneof(times, fc.constantFrom<unknown>('Acme', 'access', 'ann', undefined), fc.jsonValue())
    const counts = { both: 0, neither: 0 }
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...names), values, { maxKeys: 2 }), async (changed) => {
        const token = await textSigned(key, JSON.stringify({ ...claims, ...changed }))
        const ours = await accepts(token)
        const theirs = await jwtVerify(token, key, { ...checks, requiredClaims }).then(
          ({ payload }) => payload.token_type === 'access',
          () => false,
        )
        counts[ours ? 'both' : 'neither'] += 1
        expect(ours && !theirs).toBe(false)
      }),
      { numRuns: 400 },
    )
    expect(Math.min(counts.both, counts.neither)).toBeGreaterThan(10)
  })

  test('is verified without a job of the thread pool', async () => {
    const { tokens, key, issue } = await serviceOf()
    const { access } = await issue()
    const resourcesOf = async (work: () => Promise<unknown>) => {
      const types = new Set<string>()
      const hook = createHook({ init: (_id, type) => void types.add(type) }).enable()
      await work()
      hook.disable()
      return [...types].filter((type) => type !== 'PROMISE')
    }

    expect(await resourcesOf(() => compactVerify(access, key))).not.toEqual([])
    expect(await resourcesOf(() => tokens.verifyAccessToken(`Bearer ${access}`))).toEqual([])
  })
})

describe('with sign and verify of the host', () => {
  /** An EdDSA host, whose `verify` looks at the signature only: every other check is left to us. */
  async function eddsaHost() {
    const { publicKey, privateKey } = await generateKeyPair('EdDSA')
    const signedClaims: JwtClaims[] = []
    const header = { alg: 'EdDSA', kid: '1' }
    const sign = (claims: JWTPayload) => new SignJWT(claims).setProtectedHeader(header).sign(privateKey)
    const service = await serviceOf({
      sign: async (claims) => {
        signedClaims.push(claims)
        return sign({ ...claims, aud: 'https://api.example' })
      },
      async verify(token) {
        const { payload } = await compactVerify(token, publicKey, { algorithms: ['EdDSA'] })
        return JSON.parse(Buffer.from(payload).toString())
      },
    })
    return { ...service, publicKey, sign, signedClaims }
  }

  test('tokens are the host’s: another service verifies them with the public key', async () => {
    const { tokens, publicKey, issue, signedClaims } = await eddsaHost()
    const { access, refresh } = await issue()

    const checks = { issuer: 'Acme', audience: 'https://api.example', currentDate: new Date(NOON * 1000) }
    const { payload, protectedHeader } = await jwtVerify(access, publicKey, checks)
    expect(protectedHeader).toEqual({ alg: 'EdDSA', kid: '1' })
    expect(payload).toEqual({ ...signedClaims[0], aud: 'https://api.example' })
    expect(signedClaims.map(({ token_type }) => token_type)).toEqual(['access', 'refresh'])
    expect(await tokens.verifyAccessToken(`Bearer ${access}`)).toMatchObject({ id: 'ann', verifiedAt: VERIFIED_AT })
    await tokens.verifyToken(access)
    await tokens.verifyToken(refresh)
    const next = await tokens.refreshTokens(refresh)
    await expect(tokens.refreshTokens(refresh)).rejects.toMatchObject({ code: 'invalid_token' })
    await tokens.logout(next.refresh)
  })

  test('a token of the other kind is refused, though its signature is right', async () => {
    const { tokens, issue, accepts } = await eddsaHost()
    const { access, refresh } = await issue()

    expect(await accepts(refresh)).toBe(false)
    await expect(tokens.refreshTokens(access)).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(tokens.logout(access)).rejects.toMatchObject({ code: 'invalid_token' })
    await tokens.refreshTokens(refresh)
  })

  test('an expired token is refused, and one of another issuer, and one without its claims', async () => {
    const { clock, tokens, sign, issue, accepts } = await eddsaHost()
    const { access, refresh } = await issue()
    const { gen: _, ...unnumbered } = decodeJwt(access)

    expect(await accepts(access)).toBe(true)
    expect(await accepts(await sign({ ...decodeJwt(access), iss: 'Other' }))).toBe(false)
    expect(await accepts(await sign(unnumbered))).toBe(false)
    clock.advance(300)
    expect(await accepts(access)).toBe(false)
    await expect(tokens.verifyToken(access)).rejects.toMatchObject({ code: 'invalid_token' })
    clock.advance(86_100)
    await expect(tokens.refreshTokens(refresh)).rejects.toMatchObject({ code: 'invalid_token' })
  })

  test('a token under the encryption key is refused', async () => {
    const { key, issue, accepts } = await eddsaHost()

    expect(await accepts(await joseSigned(key, decodeJwt((await issue()).access), 'access'))).toBe(false)
  })

  const verifiers: [string, NonNullable<JwtOptions['verify']>][] = [
    [
      'throws',
      () => {
        throw new Error('signature')
      },
    ],
    ['rejects', () => Promise.reject(new Error('signature'))],
    ['returns null', () => null],
    ['returns a text', (token) => token as never],
    ['returns nothing', () => undefined as never],
    ['returns an array', () => []],
    ['returns an empty object', async () => ({})],
  ]

  test.each(verifiers)('a verify that %s refuses the token as invalid_token', async (_, verify) => {
    const { totp, tokens, accepts } = await serviceOf({ sign: () => 'a.b.c', verify })
    const handle = createHandle(totp, { jwt: tokens, caller: async () => null, clientAddress: () => '192.0.2.1' })

    expect(await accepts('a.b.c')).toBe(false)
    for (const [path, body] of [
      ['refresh', { refresh: 'a.b.c' }],
      ['verify', { token: 'a.b.c' }],
      ['logout', { refresh: 'a.b.c' }],
    ] as const) {
      const reply = await handle(
        { method: 'POST', path: `/jwt/${path}/`, headers: {}, body: { parsed: body } },
        undefined,
      )
      expect([reply?.status, JSON.parse(reply?.body ?? '').code]).toEqual([401, 'invalid_token'])
    }
  })

  test('a sign that throws issues nothing, and the client is told to come back', async () => {
    const sign = () => {
      throw new Error('the key service is away')
    }
    const { totp, tokens, issue, errors } = await serviceOf({ sign, verify: () => null })
    const handle = createHandle(totp, { jwt: tokens, caller: async () => null, clientAddress: () => '192.0.2.1' })
    const body = { parsed: { username: 'bob', password: 'right' } }

    await expect(issue()).rejects.toThrow('the key service is away')
    const reply = await handle({ method: 'POST', path: '/jwt/create/', headers: {}, body }, undefined)
    expect(reply?.status).toBe(503)
    expect(reply?.body).not.toContain('key service')
    expect(errors.map(String)).toEqual(['Error: the key service is away'])
  })

  test('one of the two alone is a bug of the host', async () => {
    const { totp } = await serviceOf()
    const authenticate = async () => null

    for (const half of [{ sign: () => '' }, { verify: () => null }, { sign: () => '', verify: 'key' as never }]) {
      expect(() => jwtTokens(totp, { authenticate, ...half })).toThrow(TypeError)
    }
  })
})
