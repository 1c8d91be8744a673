import { createTotp, generateFernetKey } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  challenge,
  claimsIn,
  enroll,
  headerIn,
  logIn,
  logInWithPhone,
  nextCode,
  STEP,
  wrongCode,
} from './actors.ts'
import type { Answer } from './answer.ts'
import { FETCH, frameworks, NODE_OVER_A_FILE, NOON, type Service, startService } from './harness.ts'

const ID = expect.stringMatching(/^[\w-]{22}$/)

/** All that a client can tell answers apart by. */
function lookOf({ status, headers: { date: _, ...headers }, text }: Answer) {
  return { status, headers, text }
}

const answer = (service: Service, totp_challenge_token: string, otp_code: string) =>
  service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })

describe.each([...frameworks, NODE_OVER_A_FILE])('$name: a login', (front) => {
  test('with a password is complete where 2FA is off', async () => {
    const service = await startService(front)
    const { username, password, id } = service.register('alice')
    const { status, body } = await service.post('jwt/create/', { username, password })
    expect(status).toBe(200)
    expect(Object.keys(body).sort()).toEqual(['access', 'is_totp_enabled', 'refresh'])
    expect(body.is_totp_enabled).toBe(false)
    for (const [type, typ, seconds] of [
      ['access', 'at+jwt', 300],
      ['refresh', 'rt+jwt', 86_400],
    ] as const) {
      expect(headerIn(String(body[type]))).toEqual({ alg: 'HS256', typ })
      expect(claimsIn(String(body[type]))).toEqual({
        token_type: type,
        iss: 'Acme',
        jti: ID,
        sid: ID,
        sub: id,
        iat: NOON,
        exp: NOON + seconds,
        auth_time: NOON,
        gen: 0,
        amr: ['pwd'],
        acr: 'aal1',
      })
    }
    expect(claimsIn(String(body.access)).jti).not.toBe(claimsIn(String(body.refresh)).jti)
  })

  test('with a password is half a login where 2FA is on', async () => {
    const service = await startService(front)
    const { person } = await enroll(service)
    const { username, password } = person
    const { status, body } = await service.post('jwt/create/', { username, password })
    expect(status).toBe(200)
    expect(body).toEqual({
      is_totp_enabled: true,
      totp_challenge_token: expect.any(String),
      expires_in: 120,
      methods: ['totp', 'backup_code'],
      digits: 6,
      trusted_device_days: 30,
    })
  })

  test('is completed with a code of the app', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const token = await challenge(service, person)
    const { status, body } = await answer(service, token, nextCode(service, phone))
    expect(status).toBe(200)
    expect(Object.keys(body).sort()).toEqual(['access', 'refresh'])
    for (const type of ['access', 'refresh']) {
      expect(claimsIn(String(body[type]))).toMatchObject({
        sub: person.id,
        token_type: type,
        amr: ['pwd', 'otp', 'mfa'],
        acr: 'aal2',
        auth_time: NOON + STEP,
      })
    }
    expect((await service.get('totp/status/', String(body.access))).outcome).toBe('200')
  })

  test('is refused in one way for a wrong password, an unknown user and one who may not log in', async () => {
    const service = await startService(front)
    const { person } = await enroll(service, 'alice')
    const { password } = service.register('bob')
    const carol = service.register('carol')
    service.deactivated.add(carol.id)
    const refused = [
      await service.post('jwt/create/', { username: person.username, password: `${person.password}!` }),
      await service.post('jwt/create/', { username: 'bob', password: password.toUpperCase() }),
      await service.post('jwt/create/', { username: 'nobody-here', password }),
      await service.post('jwt/create/', { username: 'carol', password: carol.password }),
    ]
    const [first] = refused
    expect(first?.outcome).toBe('401 invalid_credentials')
    expect(first?.headers['www-authenticate']).toBe('Bearer')
    expect(new Set(refused.map((answer) => JSON.stringify(lookOf(answer)))).size).toBe(1)
  })

  test('survives a wrong code: the challenge is good until its first success', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const token = await challenge(service, person)
    expect((await answer(service, token, wrongCode(service, phone))).outcome).toBe('400 invalid_code')
    expect((await answer(service, token, phone.codeAt(NOON))).outcome).toBe('400 code_already_used')
    expect((await answer(service, token, nextCode(service, phone))).outcome).toBe('200')
    expect((await answer(service, token, nextCode(service, phone))).outcome).toBe('400 challenge_invalid')
  })

  test('takes each code once, whatever the challenge', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const tokens = [await challenge(service, person), await challenge(service, person)] as const
    const code = nextCode(service, phone)
    expect((await answer(service, tokens[0], code)).outcome).toBe('200')
    expect((await answer(service, tokens[1], code)).outcome).toBe('400 code_already_used')
  })

  test('is one of any number that race with one code', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const tokens = await Promise.all(Array.from({ length: 4 }, () => challenge(service, person)))
    const code = nextCode(service, phone)
    const outcomes = (await Promise.all(tokens.map((token) => answer(service, token, code)))).map((a) => a.outcome)
    expect(outcomes.sort()).toEqual(['200', ...Array<string>(3).fill('400 code_already_used')])
  })

  test('is one of any number that race with one challenge', async () => {
    const service = await startService(front)
    const { person, phone, backupCodes } = await enroll(service)
    const totp_challenge_token = await challenge(service, person)
    const codes = [
      { otp_code: nextCode(service, phone) },
      ...backupCodes.slice(0, 3).map((backup_code) => ({ backup_code })),
    ]
    const answers = await Promise.all(
      codes.map((code) => service.post('jwt/totp/verify/', { totp_challenge_token, ...code })),
    )
    expect(answers.map(({ outcome }) => outcome).sort()).toEqual([
      '200',
      ...Array<string>(3).fill('400 challenge_invalid'),
    ])
  })
})

describe.each(frameworks)('$name: a challenge', (front) => {
  test('is good for 120 seconds, not for 121', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    for (const [seconds, outcome] of [
      [120, '200'],
      [121, '400 challenge_invalid'],
    ] as const) {
      const token = await challenge(service, person)
      service.clock.advance(seconds)
      expect((await answer(service, token, phone.codeAt(service.clock.now()))).outcome).toBe(outcome)
    }
  })

  test('is refused in one way, whatever is wrong with it', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const { access, refresh } = await logInWithPhone(service, { person, phone })
    const token = await challenge(service, person)
    const used = await challenge(service, person)
    await answer(service, used, nextCode(service, phone))
    const expired = await challenge(service, person)
    service.clock.advance(121)
    const stranger = await createTotp({ issuer: 'A', encryptionKey: generateFernetKey(), store: memoryStore() })
    const middle = Math.floor(token.length / 2)
    const other = token[middle] === 'A' ? 'B' : 'A'
    const invalid = [
      expired,
      used,
      `${token.slice(0, middle)}${other}${token.slice(middle + 1)}`,
      token.slice(0, -4),
      `${token}AAAA`,
      token.toLowerCase(),
      access,
      refresh,
      service.totp.encrypt(person.id),
      service.totp.encrypt(JSON.stringify(['AAAAAAAAAAAAAAAAAAAAAA', person.id, 1])),
      await stranger.generateChallengeToken(person.id),
      'not-a-token',
      '{}',
      '....',
    ]
    const looks = new Set<string>()
    for (const token of invalid) {
      const refused = await answer(service, token, nextCode(service, phone))
      expect(refused.outcome).toBe('400 challenge_invalid')
      looks.add(JSON.stringify(lookOf(refused)))
    }
    expect(looks.size).toBe(1)
    const spent = await service.get('totp/status/', (await logInWithPhone(service, { person, phone })).access)
    expect(spent.body.locked_until).toBeNull()
  })

  test('is worth nothing anywhere else', async () => {
    const service = await startService(front)
    const { person } = await enroll(service)
    const token = await challenge(service, person)
    expect((await service.get('totp/status/', token)).outcome).toBe('401 unauthenticated')
    expect((await service.post('jwt/verify/', { token })).outcome).toBe('401 invalid_token')
    expect((await service.post('jwt/refresh/', { refresh: token })).outcome).toBe('401 invalid_token')
    expect((await service.post('jwt/logout/', { refresh: token })).outcome).toBe('401 invalid_token')
  })

  test.each<[string, (service: Service, enrolled: Awaited<ReturnType<typeof enroll>>) => Promise<unknown>]>([
    ['the password changed', ({ totp }, { person }) => totp.credentialsChanged(person.id)],
    [
      '2FA was switched off',
      (service, { session, backupCodes }) =>
        service.post('totp/disable/', { input_code: backupCodes[0] }, session.access),
    ],
    [
      'the phone was replaced',
      async (service, { session, backupCodes }) => {
        const phone = await beginEnrollment(service, session.access, { input_code: backupCodes[0] })
        const input_code = phone.codeAt(service.clock.now())
        return service.post('totp/confirm/', { input_code }, session.access)
      },
    ],
  ])('dies when %s', async (_, change) => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const token = await challenge(service, enrolled.person)
    await change(service, enrolled)
    const code = nextCode(service, enrolled.phone)
    expect((await answer(service, token, code)).outcome).toBe('400 challenge_invalid')
    const backup = { totp_challenge_token: token, backup_code: enrolled.backupCodes[1] }
    expect((await service.post('jwt/totp/verify/', backup)).outcome).toBe('400 challenge_invalid')
  })

  test('of a user who may not log in any more is invalid, and costs nothing', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const token = await challenge(service, person)
    service.deactivated.add(person.id)
    const code = nextCode(service, phone)
    for (let n = 0; n < 6; n++) {
      expect((await answer(service, token, code)).outcome).toBe('400 challenge_invalid')
    }
    service.deactivated.clear()
    expect((await answer(service, token, code)).outcome).toBe('200')
  })
})

test('the host chooses how long a challenge is good', async () => {
  const service = await startService(FETCH, { challengeTokenSeconds: 1 })
  const { person, phone } = await enroll(service)
  service.clock.advance(STEP)
  const token = await challenge(service, person)
  service.clock.advance(2)
  expect((await answer(service, token, phone.codeAt(service.clock.now()))).outcome).toBe('400 challenge_invalid')
})

test('a user id may be as long as is allowed, in any script', async () => {
  for (const id of ['x'.repeat(255), '\u{1f511}'.repeat(255), '\u0001'.repeat(255), '"'.repeat(255)]) {
    const service = await startService(FETCH)
    const person = service.register('alice')
    person.id = id
    const { access } = await logIn(service, person)
    const phone = await beginEnrollment(service, access)
    const { body } = await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, access)
    expect((await service.post('jwt/refresh/', { refresh: body.refresh })).outcome).toBe('200')
    const session = await logInWithPhone(service, { person, phone })
    expect((await service.post('totp/disable/', undefined, session.access)).outcome).toBe('204')
  }
})
