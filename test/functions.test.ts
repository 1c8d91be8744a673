import { createTotp, generateFernetKey, problemReply, problemResponse, TotpError, type TotpOptions } from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, expect, test } from 'vitest'

const NOON = 1_800_000_000
const ANN = { id: 'ann', accountName: 'ann@example.com' }

/** A service without any adapter, and Ann, whose phone was enrolled at noon. */
async function host(options: Partial<TotpOptions<unknown>> = {}) {
  const clock = fakeClock(NOON)
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    clock: clock.now,
    ...options,
  })
  const phone = authenticatorFor((await totp.createTotpSetup(ANN)).uri)
  const confirmed = await totp.confirmTotpSetup('ann', phone.codeAt(NOON))
  const nextCode = () => {
    clock.advance(30)
    return phone.codeAt(clock.now())
  }
  return { totp, clock, nextCode, confirmed, backupCodes: confirmed.backupCodes ?? [] }
}

const refusing = (code: string) => expect.objectContaining({ name: 'TotpError', code })

describe('a TotpError', () => {
  test('says its status, and words for people; its JSON is the body that the endpoints answer', async () => {
    const error = new TotpError('step_up_required', { maxAgeSeconds: 300 })

    expect(error).toMatchObject({ status: 401, statusCode: 401, expose: true, title: expect.any(String) })
    expect(error.message).toBe(error.detail)
    expect(error.headers).toMatchObject({
      'cache-control': 'no-store',
      'www-authenticate': expect.stringContaining('max_age="300"'),
    })
    const { status, headers, body } = problemReply(error)
    expect({ status, body }).toEqual({ status: 401, body: JSON.stringify(error) })
    const response = problemResponse(error)
    expect(response.status).toBe(401)
    expect(Object.fromEntries(response.headers)).toEqual(headers)
    expect(await response.json()).toEqual({
      type: 'urn:totp-kit:problem:step_up_required',
      title: error.title,
      status: 401,
      detail: error.detail,
      code: 'step_up_required',
    })
  })

  test('tells what is left of the failure budget in its JSON, and never its cause', () => {
    const error = new TotpError('invalid_code', { attemptsLeft: 3, cause: new Error('the password of the database') })

    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ attempts_left: 3 })
    expect(JSON.stringify(error)).not.toContain('password')
  })
})

describe('a Proof', () => {
  test('of the confirming code is fresh under the factors that it confirmed', async () => {
    const { totp, confirmed } = await host()
    const { proof } = confirmed

    expect(proof).toMatchObject({ userId: 'ann', method: 'totp', amr: ['pwd', 'otp', 'mfa'] })
    await totp.requireFresh({ ...ANN, ...proof }, { maxAgeSeconds: 60 })
    expect((await jwtTokens(totp, { authenticate: async () => null }).issueTokens(proof)).access).not.toBe('')
  })

  test('names the first factor that the host says, whatever code was given', async () => {
    const { totp, nextCode, backupCodes } = await host()
    const [code = ''] = backupCodes

    expect((await totp.verifyTotpCode('ann', nextCode(), { amr: ['hwk'] })).amr).toEqual(['hwk', 'otp', 'mfa'])
    expect((await totp.verifyBackupCode('ann', code, { amr: ['fed'] })).amr).toEqual(['fed', 'mfa'])
  })

  test('belongs to the service that made it: another one refuses it', async () => {
    const staff = await host({ trustedDevices: { days: 30 } })
    const customers = await host({ trustedDevices: { days: 30 } })
    const proof = await staff.totp.verifyTotpCode('ann', staff.nextCode())

    const tokens = jwtTokens(customers.totp, { authenticate: async () => null })
    await expect(tokens.issueTokens(proof)).rejects.toThrow(TypeError)
    await expect(customers.totp.trustDevice(proof)).rejects.toThrow(TypeError)
    expect(await staff.totp.trustDevice(proof)).toEqual(expect.any(String))
  })
})

describe('startLogin', () => {
  test('says what comes next: a challenge, with its lifetime and what answers it', async () => {
    const { totp } = await host({ challengeTokenSeconds: 90 })

    expect(await totp.startLogin('ann')).toEqual({
      status: 'challenge',
      challengeToken: expect.any(String),
      expiresIn: 90,
      methods: ['totp', 'backup_code'],
      digits: 6,
    })
    expect(await totp.startLogin('bob')).toMatchObject({ status: 'complete', trustedDevice: null })
  })

  test('says that the user must enroll, and for how long the token is good', async () => {
    const enforcement = { required: () => true, accountName: () => 'bob' }
    const { totp } = await host({ findUser: (id) => id, enforcement })

    expect(await totp.startLogin('bob')).toEqual({
      status: 'enrollment_required',
      enrollmentToken: expect.any(String),
      expiresIn: 900,
    })
  })
})

test('a challenge is answered with a code as typed, of the app or a backup code', async () => {
  const { totp, nextCode, backupCodes } = await host()
  const { challengeToken: first } = (await totp.startLogin('ann')) as { challengeToken: string }
  expect((await totp.answerChallenge(first, nextCode())).method).toBe('totp')
  const { challengeToken: second } = (await totp.startLogin('ann')) as { challengeToken: string }
  expect((await totp.answerChallenge(second, backupCodes[0] ?? '')).method).toBe('backup_code')
})

test('a login that has to wait gets a challenge token, and for how long it is good, in the error', async () => {
  const { totp, clock, nextCode } = await host({ challengeTokenSeconds: 30 })
  const login = await totp.startLogin('ann')
  if (login.status !== 'challenge') throw new Error('no code was asked for')
  const { challengeToken: begun } = login
  const wrong = () => totp.answerChallenge(begun, '00000000').catch((error: TotpError) => error)
  for (let n = 0; n < 4; n++) expect(await wrong()).toMatchObject({ challengeExpiresIn: undefined })

  const { challengeToken = '', challengeExpiresIn, retryAfterSeconds } = (await wrong()) as TotpError

  expect({ challengeExpiresIn, retryAfterSeconds }).toEqual({ challengeExpiresIn: 90, retryAfterSeconds: 30 })
  clock.advance(60)
  const lastSecond = nextCode()
  expect((await totp.answerChallenge(challengeToken, lastSecond)).userId).toBe('ann')
  clock.advance(1)
  await expect(totp.answerChallenge(challengeToken, lastSecond)).rejects.toEqual(refusing('challenge_invalid'))
})

describe('requireFresh', () => {
  test('refuses nobody, a user without a second factor, and one whose proof is too old, each with a code of its own', async () => {
    const { totp, clock, confirmed } = await host()
    const caller = { ...ANN, ...confirmed.proof }
    const maxAgeSeconds = 300

    for (const nobody of [null, undefined, false] as const) {
      await expect(totp.requireFresh(nobody, { maxAgeSeconds })).rejects.toEqual(refusing('unauthenticated'))
    }
    const bob = { id: 'bob', accountName: 'bob', verifiedAt: NOON }
    await expect(totp.requireFresh(bob, { maxAgeSeconds })).rejects.toEqual(refusing('second_factor_required'))
    await expect(totp.requireFresh(ANN, { maxAgeSeconds })).rejects.toEqual(refusing('step_up_required'))
    clock.advance(301)
    await expect(totp.requireFresh(caller, { maxAgeSeconds })).resolves.toBeUndefined()
    clock.advance(1)
    await expect(totp.requireFresh(caller, { maxAgeSeconds })).rejects.toEqual(refusing('step_up_required'))
  })

  test.each([0, -1, 1.5, Number.NaN, 86_401, undefined])('takes no age of %s seconds', async (maxAgeSeconds) => {
    const { totp, confirmed } = await host()
    const freshness = { maxAgeSeconds } as { maxAgeSeconds: number }

    await expect(totp.requireFresh({ ...ANN, ...confirmed.proof }, freshness)).rejects.toThrow(RangeError)
  })
})

describe('permitChange', () => {
  test('passes without a code when 2FA is off or the caller is fresh, and with a right code; gives the proof of the code', async () => {
    const { totp, nextCode, confirmed } = await host()

    expect(await totp.permitChange({ id: 'bob', accountName: 'bob' })).toBeNull()
    expect(await totp.permitChange({ ...ANN, ...confirmed.proof })).toBeNull()
    const proof = await totp.permitChange({ ...ANN, amr: ['hwk'] }, nextCode())
    expect(proof).toMatchObject({ userId: 'ann', amr: ['hwk', 'otp', 'mfa'] })
  })

  test('refuses nobody, a caller who is not fresh, and a wrong code', async () => {
    const { totp, backupCodes } = await host()

    await expect(totp.permitChange(null)).rejects.toEqual(refusing('unauthenticated'))
    await expect(totp.permitChange(ANN)).rejects.toEqual(refusing('step_up_required'))
    await expect(totp.permitChange(ANN, 'AAAA-AAAA-AAAA-AAAA')).rejects.toEqual(refusing('invalid_code'))
    await totp.permitChange(ANN, backupCodes[0])
    await expect(totp.permitChange(ANN, backupCodes[0])).rejects.toEqual(refusing('invalid_code'))
  })
})

describe('getStatus', () => {
  test('gives what a user may see: nothing sealed, nothing of the store', async () => {
    const { totp } = await host()
    await totp.createTotpSetup({ id: 'bob', accountName: 'bob' })

    expect(await totp.getStatus('ann')).toEqual({
      isTotpEnabled: true,
      confirmedAt: NOON,
      authenticators: [{ id: expect.any(String), name: null, createdAt: NOON, lastUsedAt: NOON }],
      backupCodesRemaining: 10,
      backupCodesSavedAt: null,
      pending: null,
      trustedDevices: 0,
      lockedUntil: null,
    })
    expect(await totp.getStatus('bob')).toMatchObject({ isTotpEnabled: false, pending: { expiresAt: NOON + 900 } })
  })
})

describe('createTotpSetup', () => {
  test('says everything that a page shows, and which authenticator confirming would replace', async () => {
    const { totp } = await host()
    const [live] = (await totp.getStatus('ann')).authenticators

    expect(await totp.createTotpSetup({ ...ANN, name: 'new phone' })).toMatchObject({
      expiresAt: NOON + 900,
      digits: 6,
      periodSeconds: 30,
      algorithm: 'SHA1',
      issuer: 'Acme',
      accountName: 'ann@example.com',
      replaces: { id: live?.id, name: null },
    })
    expect(await totp.createTotpSetup({ id: 'bob', accountName: 'bob' })).toMatchObject({ replaces: null })
  })

  test('names the one that confirming does replace, of several', async () => {
    const { totp, clock, nextCode } = await host({ maxAuthenticators: 2 })
    const second = await totp.createTotpSetup({ ...ANN, name: 'second' })
    expect(second.replaces).toBeNull()
    clock.advance(60)
    await totp.confirmTotpSetup('ann', authenticatorFor(second.uri).codeAt(clock.now()))
    await totp.verifyTotpCode('ann', nextCode())
    const third = await totp.createTotpSetup({ ...ANN, name: 'third' })

    await totp.confirmTotpSetup('ann', authenticatorFor(third.uri).codeAt(clock.now()))

    expect(third.replaces).toMatchObject({ name: 'second' })
    const { authenticators } = await totp.getStatus('ann')
    expect(authenticators.map(({ name }) => name).sort()).toEqual([null, 'third'].sort())
  })

  test('takes an issuer for each user, for hosts with tenants, and refuses one that fits no key URI', async () => {
    const { totp } = await host()

    const setup = await totp.createTotpSetup({ id: 'bob', accountName: 'bob', issuer: 'Globex' })
    expect(setup.issuer).toBe('Globex')
    expect(setup.uri).toMatch(/^otpauth:\/\/totp\/Globex:bob\?.*issuer=Globex/)
    const colon = { id: 'bob', accountName: 'bob', issuer: 'a:b' }
    await expect(totp.createTotpSetup(colon)).rejects.toThrow(TypeError)
  })
})

test('`on` gives its own undoing, and `*` hears every kind of event', async () => {
  const { totp, nextCode } = await host()
  const heard: string[] = []
  const stop = totp.on('totp.verified', ({ method }) => void heard.push(method), { awaited: true })
  const stopAll = totp.on('*', ({ type }) => void heard.push(type), { awaited: true })
  await totp.verifyTotpCode('ann', nextCode())
  stop()
  await totp.verifyTotpCode('ann', nextCode())
  stopAll()
  await totp.verifyTotpCode('ann', nextCode())

  expect(heard).toEqual(['totp', 'totp.verified', 'totp.verified'])
})
