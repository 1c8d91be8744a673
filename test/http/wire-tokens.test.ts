import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  challenge,
  claimsIn,
  enroll,
  headerIn,
  logIn,
  logInWith,
  logInWithPhone,
  nextCode,
  type Session,
  STEP,
  sessionIn,
} from './actors.ts'
import { challengeIn } from './answer.ts'
import { frameworks, NOON, type Service, startService } from './harness.ts'

const refresh = (service: Service, { refresh }: Session) => service.post('jwt/refresh/', { refresh })
const verify = (service: Service, token: string) => service.post('jwt/verify/', { token })

async function expectAlive(service: Service, session: Session): Promise<Session> {
  expect((await verify(service, session.access)).outcome).toBe('200')
  expect((await verify(service, session.refresh)).outcome).toBe('200')
  const answer = await refresh(service, session)
  expect(answer.outcome).toBe('200')
  return sessionIn(answer.body)
}

async function expectDead(service: Service, session: Session): Promise<void> {
  expect((await verify(service, session.access)).outcome).toBe('401 invalid_token')
  expect((await verify(service, session.refresh)).outcome).toBe('401 invalid_token')
  expect((await refresh(service, session)).outcome).toBe('401 invalid_token')
}

describe.each(frameworks)('$name: a refresh token', (front) => {
  test('gives a new pair once; a dead one presented again ends its whole family', async () => {
    const service = await startService(front)
    const alice = service.register('alice')
    const other = await logIn(service, alice)
    const first = await logIn(service, alice)
    const answer = await refresh(service, first)
    expect(answer.outcome).toBe('200')
    expect(Object.keys(answer.body).sort()).toEqual(['access', 'refresh'])
    const second = sessionIn(answer.body)
    expect(second.refresh).not.toBe(first.refresh)
    expect((await verify(service, first.refresh)).outcome).toBe('401 invalid_token')
    const third = await expectAlive(service, second)

    expect((await refresh(service, first)).outcome).toBe('401 invalid_token')

    for (const session of [first, second, third]) await expectDead(service, session)
    await expectAlive(service, other)
  })

  test('presented by two requests at once serves one, and the family ends', async () => {
    const service = await startService(front)
    const session = await logIn(service, service.register('alice'))
    const answers = await Promise.all([refresh(service, session), refresh(service, session)])
    expect(answers.map(({ outcome }) => outcome).sort()).toEqual(['200', '401 invalid_token'])
    for (const { outcome, body } of answers) if (outcome === '200') await expectDead(service, sessionIn(body))
  })

  test('keeps when the user logged in and by what: it never raises them', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const sessions = [
      { session: await logIn(service, service.register('bob')), auth_time: NOON, amr: ['pwd'], acr: 'aal1' },
      { session: enrolled.raised, auth_time: NOON + 1, amr: ['pwd', 'otp', 'mfa'], acr: 'aal2' },
      {
        session: await logInWithPhone(service, enrolled),
        auth_time: NOON + STEP,
        amr: ['pwd', 'otp', 'mfa'],
        acr: 'aal2',
      },
      {
        session: await logInWith(service, enrolled.person, { backup_code: String(enrolled.backupCodes[0]) }),
        auth_time: NOON + STEP,
        amr: ['pwd', 'mfa'],
        acr: 'aal2',
      },
    ]
    service.clock.advance(1000)
    for (const { session, ...kept } of sessions) {
      const once = sessionIn((await refresh(service, session)).body)
      const twice = sessionIn((await refresh(service, once)).body)
      for (const token of [twice.access, twice.refresh]) {
        expect(claimsIn(token)).toMatchObject({ ...kept, iat: service.clock.now() })
        expect(claimsIn(token).sid).toBe(claimsIn(session.access).sid)
      }
    }
  })

  test('lives for a day, from its last use', async () => {
    const service = await startService(front)
    const session = await logIn(service, service.register('alice'))
    service.clock.advance(86_399)
    const next = sessionIn((await refresh(service, session)).body)
    service.clock.advance(86_399)
    const last = sessionIn((await refresh(service, next)).body)
    service.clock.advance(86_400)
    await expectDead(service, last)
  })

  test('is the only kind of token that jwt/refresh and jwt/logout take', async () => {
    const service = await startService(front)
    const { person, session, phone } = await enroll(service)
    const tokens = [
      session.access,
      await challenge(service, person),
      service.totp.encrypt(session.refresh),
      `${session.refresh}x`,
      session.refresh.slice(0, -1),
      session.refresh.split('.').slice(0, 2).join('.'),
      'not-a-token',
      'a.b.c',
      `${'x'.repeat(1000)}.${'y'.repeat(1000)}.${'z'.repeat(1000)}`,
    ]
    for (const path of ['jwt/refresh/', 'jwt/logout/']) {
      for (const token of tokens) {
        const answer = await service.post(path, { refresh: token })
        expect(answer.outcome).toBe('401 invalid_token')
        expect(challengeIn(answer)).toEqual({ scheme: 'Bearer', parameters: { error: 'invalid_token' } })
      }
    }
    await expectAlive(service, session)
    await expectAlive(service, await logInWithPhone(service, { person, phone }))
  })

  test('of a user who may not log in any more is worth nothing, and is not used up', async () => {
    const service = await startService(front)
    const person = service.register('alice')
    const session = await logIn(service, person)
    service.deactivated.add(person.id)
    expect((await refresh(service, session)).outcome).toBe('401 invalid_token')
    expect((await service.post('jwt/verify/', { token: session.access })).outcome).toBe('401 invalid_token')
    service.deactivated.clear()
    await expectAlive(service, session)
  })
})

describe.each(frameworks)('$name: jwt/verify', (front) => {
  test('says of a living token nothing but that', async () => {
    const service = await startService(front)
    const session = await logIn(service, service.register('alice'))
    for (const token of [session.access, session.refresh]) {
      const { status, body, text } = await verify(service, token)
      expect([status, body, text]).toEqual([200, {}, '{}'])
    }
  })

  test('refuses an access token after five minutes', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    service.clock.advance(299)
    expect((await verify(service, access)).outcome).toBe('200')
    expect((await service.get('totp/status/', access)).outcome).toBe('200')
    service.clock.advance(1)
    expect((await verify(service, access)).outcome).toBe('401 invalid_token')
    expect((await service.get('totp/status/', access)).outcome).toBe('401 unauthenticated')
  })

  test('refuses what was altered, signed by nobody, or signed by somebody else', async () => {
    const service = await startService(front)
    const stranger = await startService(front)
    const { access, refresh } = await logIn(service, service.register('alice'))
    const [header = '', payload = '', signature = ''] = access.split('.')
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const forged = [
      [header, encode({ ...claimsIn(access), sub: '2' }), signature],
      [header, encode({ ...claimsIn(access), amr: ['pwd', 'otp', 'mfa'] }), signature],
      [encode({ ...headerIn(access), alg: 'none' }), payload, ''],
      [encode({ ...headerIn(access), alg: 'none' }), payload, signature],
      [encode({ ...headerIn(access), alg: 'HS512' }), payload, signature],
      [encode({ ...headerIn(access), typ: 'rt+jwt' }), payload, signature],
      [header, refresh.split('.')[1], signature],
      [header, payload, ''],
      [header, payload],
    ].map((parts) => parts.join('.'))
    for (const token of [...forged, (await logIn(stranger, stranger.register('alice'))).access, 'not-a-token']) {
      const answer = await verify(service, token)
      expect(answer.outcome).toBe('401 invalid_token')
      expect(challengeIn(answer)).toEqual({ scheme: 'Bearer', parameters: { error: 'invalid_token' } })
      expect((await service.get('totp/status/', token)).outcome).toBe('401 unauthenticated')
    }
  })
})

describe.each(frameworks)('$name: logging out', (front) => {
  test('ends that family and no other', async () => {
    const service = await startService(front)
    const alice = service.register('alice')
    const [stays, goes] = [await logIn(service, alice), await logIn(service, alice)]
    const answer = await service.post('jwt/logout/', { refresh: goes.refresh })
    expect([answer.status, answer.text]).toEqual([204, ''])
    await expectDead(service, goes)
    await expectAlive(service, stays)
    expect((await service.post('jwt/logout/', { refresh: goes.refresh })).outcome).toBe('204')
  })

  test('works with any refresh token of the family, a dead one too', async () => {
    const service = await startService(front)
    const first = await logIn(service, service.register('alice'))
    const second = sessionIn((await refresh(service, first)).body)
    expect((await service.post('jwt/logout/', { refresh: first.refresh })).outcome).toBe('204')
    await expectDead(service, second)
  })
})

describe.each(frameworks)("$name: the user's sessions", (front) => {
  test("end when 2FA is switched on, on another phone, or off: the caller's own and other users' stay", async () => {
    const service = await startService(front)
    const alice = service.register('alice')
    const bob = await logIn(service, service.register('bob'))
    const before = await logIn(service, alice)
    let own = await logIn(service, alice)
    let phone = await beginEnrollment(service, own.access)
    const confirm = async () => {
      const input_code = phone.codeAt(service.clock.now())
      return sessionIn((await service.post('totp/confirm/', { input_code }, own.access)).body)
    }
    own = await confirm()
    await expectDead(service, before)
    own = await expectAlive(service, own)

    const second = await logInWithPhone(service, { person: alice, phone })
    const input_code = nextCode(service, phone)
    phone = await beginEnrollment(service, own.access, { input_code })
    own = await confirm()
    await expectDead(service, second)
    own = await expectAlive(service, own)

    const third = await logInWithPhone(service, { person: alice, phone })
    await service.post('totp/disable/', { input_code: nextCode(service, phone) }, own.access)
    await expectDead(service, third)
    own = await expectAlive(service, own)

    await expectAlive(service, bob)
  })

  test('stay when an enrollment was only begun, dropped or refused', async () => {
    const service = await startService(front)
    const alice = service.register('alice')
    const other = await logIn(service, alice)
    const own = await logIn(service, alice)
    await beginEnrollment(service, own.access)
    await service.post('totp/confirm/', { input_code: '000' }, own.access)
    await service.post('totp/disable/', undefined, own.access)
    await expectAlive(service, other)
  })

  test('all end when the password changes', async () => {
    const service = await startService(front)
    const { person, session, phone } = await enroll(service)
    const sessions = [session, await logInWithPhone(service, { person, phone })]
    await service.totp.credentialsChanged(person.id)
    for (const session of sessions) await expectDead(service, session)
    await expectAlive(service, await logInWithPhone(service, { person, phone }))
  })
})
