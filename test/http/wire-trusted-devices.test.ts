import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  challenge,
  claimsIn,
  type Enrolled,
  enroll,
  logIn,
  logInWithPhone,
  nextCode,
  sessionIn,
  wrongCode,
} from './actors.ts'
import type { Answer } from './answer.ts'
import { FETCH, frameworks, NODE, type Service, startService } from './harness.ts'

const DAYS_30 = 30 * 86_400
const longSessions = { tokens: { accessTokenSeconds: 86_400 } }

/** Both steps of a log-in, with the wish to be trusted. */
async function trust(service: Service, { person, phone }: Enrolled, device_name?: string): Promise<Answer> {
  const totp_challenge_token = await challenge(service, person)
  const answer = { totp_challenge_token, otp_code: nextCode(service, phone), trust_device: true }
  return service.post('jwt/totp/verify/', device_name === undefined ? answer : { ...answer, device_name })
}

async function deviceOf(service: Service, enrolled: Enrolled): Promise<string> {
  return String((await trust(service, enrolled)).body.trusted_device)
}

/** The first step of a log-in on a device that shows `trusted_device`. */
function logInOn(service: Service, { person }: Enrolled, trusted_device: unknown): Promise<Answer> {
  const { username, password } = person
  return service.post('jwt/create/', { username, password, trusted_device })
}

describe.each(frameworks)('$name: a trusted device', (front) => {
  test('needs no code at the next log-in; its session still claims the password only', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const trusting = await trust(service, enrolled, 'Laptop')
    expect(trusting.body).toEqual({
      access: expect.any(String),
      refresh: expect.any(String),
      trusted_device: expect.any(String),
    })
    const answer = await logInOn(service, enrolled, trusting.body.trusted_device)
    expect(answer.body).toEqual({
      is_totp_enabled: false,
      access: expect.any(String),
      refresh: expect.any(String),
      trusted_device: expect.any(String),
    })
    const { access } = sessionIn(answer.body)
    expect(claimsIn(access)).toMatchObject({ amr: ['pwd'], acr: 'aal1' })
    const vault = await service.send({ method: 'GET', path: '/vault', bearer: access })
    expect(vault.status).toBe(401)
    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('401 step_up_required')
  })

  test('is not kept unless it is asked for', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    for (const wish of [{}, { trust_device: false }]) {
      const totp_challenge_token = await challenge(service, person)
      const answer = { totp_challenge_token, otp_code: nextCode(service, phone), ...wish }
      expect((await service.post('jwt/totp/verify/', answer)).body).not.toHaveProperty('trusted_device')
    }
    const { access } = await logInWithPhone(service, { person, phone })
    expect((await service.get('totp/trusted_devices/', access)).body).toEqual({ trusted_devices: [] })
  })

  test('gets a new token at each log-in; an old one shown again ends the device', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const first = await deviceOf(service, enrolled)
    const second = String((await logInOn(service, enrolled, first)).body.trusted_device)
    expect(second).not.toBe(first)
    expect((await logInOn(service, enrolled, first)).body).toMatchObject({ is_totp_enabled: true })
    expect((await logInOn(service, enrolled, second)).body).toMatchObject({ is_totp_enabled: true })
  })

  test('of any number of log-ins at once with one token one is let in', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const token = await deviceOf(service, enrolled)
    const answers = await Promise.all(Array.from({ length: 20 }, () => logInOn(service, enrolled, token)))
    expect(answers.filter(({ body }) => body.is_totp_enabled === false)).toHaveLength(1)
  })

  test('is trusted for thirty days from when it was asked for, used or not', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const start = service.clock.now()
    let token = await deviceOf(service, enrolled)
    for (const day of [10, 20, 29]) {
      service.clock.advance(start + day * 86_400 - service.clock.now())
      token = String((await logInOn(service, enrolled, token)).body.trusted_device)
    }
    service.clock.advance(start + 30 + DAYS_30 - service.clock.now())
    expect((await logInOn(service, enrolled, token)).body).toMatchObject({ is_totp_enabled: true })
  })

  test('is of no use to another user, without the password, or as any other kind of token', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const bob = await enroll(service, 'bob')
    const token = await deviceOf(service, enrolled)
    expect((await logInOn(service, bob, token)).body).toMatchObject({ is_totp_enabled: true })
    const { username } = enrolled.person
    const guess = { username, password: 'wrong horse', trusted_device: token }
    expect((await service.post('jwt/create/', guess)).outcome).toBe('401 invalid_credentials')
    const otp_code = nextCode(service, enrolled.phone)
    const asChallenge = { totp_challenge_token: token, otp_code }
    expect((await service.post('jwt/totp/verify/', asChallenge)).outcome).toBe('400 challenge_invalid')
    expect((await service.post('jwt/refresh/', { refresh: token })).outcome).toBe('401 invalid_token')
    expect((await service.get('totp/status/', token)).outcome).toBe('401 unauthenticated')
    expect((await logInOn(service, enrolled, token)).body, 'and none of it has harmed it').toMatchObject({
      is_totp_enabled: false,
    })
  })

  test('shows as a device what is none: asked for the code', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { refresh } = enrolled.session
    for (const token of ['not-a-token', refresh, await challenge(service, enrolled.person)]) {
      expect((await logInOn(service, enrolled, token)).body).toMatchObject({ is_totp_enabled: true })
    }
  })

  test('ends with 2FA, with a new phone, and when the host tells of a new password', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const changes = [
      () => service.totp.credentialsChanged(enrolled.person.id),
      async () => {
        const { access } = await logInWithPhone(service, enrolled)
        const phone = await beginEnrollment(service, access)
        const input_code = phone.codeAt(service.clock.now())
        expect((await service.post('totp/confirm/', { input_code }, access)).outcome).toBe('200')
        enrolled.phone = phone
      },
      async () => {
        await service.totp.disableTotp(enrolled.person.id)
        const { access } = await logIn(service, enrolled.person)
        const phone = await beginEnrollment(service, access)
        const input_code = phone.codeAt(service.clock.now())
        expect((await service.post('totp/confirm/', { input_code }, access)).outcome).toBe('200')
        enrolled.phone = phone
      },
    ]
    for (const change of changes) {
      const token = await deviceOf(service, enrolled)
      await change()
      expect((await logInOn(service, enrolled, token)).body).toMatchObject({ is_totp_enabled: true })
      const { access } = await logInWithPhone(service, enrolled)
      expect((await service.get('totp/status/', access)).body.trusted_devices).toBe(0)
    }
  })

  test('is listed for its owner and removed with a fresh factor', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    const bob = await enroll(service, 'bob')
    const at = new Date((service.clock.now() + 30) * 1000).toISOString().replace('.000Z', 'Z')
    const { body } = await trust(service, enrolled, '  Laptop ')
    const { access } = sessionIn(body)
    const listed = (await service.get('totp/trusted_devices/', access)).body.trusted_devices as { id: string }[]
    const expires_at = new Date(Date.parse(at) + DAYS_30 * 1000).toISOString().replace('.000Z', 'Z')
    const device = {
      id: expect.any(String),
      name: 'Laptop',
      created_at: at,
      last_used_at: at,
      expires_at,
      is_current: false,
    }
    expect(listed).toEqual([device])
    expect((await service.get('totp/status/', access)).body.trusted_devices).toBe(1)
    const path = `totp/trusted_devices/${listed[0]?.id}/`
    const remove = (bearer?: string, json?: object) => service.call({ method: 'DELETE', path, json, bearer })
    const passwordOnly = sessionIn((await logInOn(service, enrolled, body.trusted_device)).body).access
    expect((await remove()).outcome).toBe('401 unauthenticated')
    expect((await remove(passwordOnly)).outcome).toBe('401 step_up_required')
    const wrong = { input_code: wrongCode(service, enrolled.phone) }
    expect((await remove(passwordOnly, wrong)).outcome).toBe('400 invalid_code')
    const other = await logInWithPhone(service, bob)
    expect((await remove(other.access)).outcome).toBe('404 not_found')
    expect((await remove(passwordOnly, { input_code: nextCode(service, enrolled.phone) })).outcome).toBe('204')
    expect((await remove(access)).outcome).toBe('404 not_found')
    const input_code = nextCode(service, enrolled.phone)
    expect((await remove(access, { input_code })).outcome).toBe('404 not_found')
    expect((await service.post('totp/verify/', { otp_code: input_code }, access)).outcome, 'unspent').toBe('200')
    expect((await service.get('totp/trusted_devices/', access)).body).toEqual({ trusted_devices: [] })
  })

  test("lets the owner in while an attacker has locked the app's codes", async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const token = await deviceOf(service, enrolled)
    const totp_challenge_token = await challenge(service, enrolled.person)
    const guess = { totp_challenge_token, otp_code: wrongCode(service, enrolled.phone) }
    for (let n = 0; n < 5; n++) await service.post('jwt/totp/verify/', guess)
    expect((await service.post('jwt/totp/verify/', guess)).outcome).toBe('429 too_many_attempts')
    expect((await logInOn(service, enrolled, token)).body).toMatchObject({ is_totp_enabled: false })
  })
})

test('where trusted devices are off none is kept, and none is believed', async () => {
  const service = await startService(NODE, { trustedDevices: false })
  const enrolled = await enroll(service)
  const answer = await trust(service, enrolled)
  expect(answer.outcome).toBe('200')
  expect(answer.body).not.toHaveProperty('trusted_device')
  expect((await logInOn(service, enrolled, 'not-a-token')).body).toMatchObject({ is_totp_enabled: true })
})

test('a wish to be trusted is a yes or a no; a form writes it as a word', async () => {
  const service = await startService(FETCH)
  const { person, phone } = await enroll(service)
  const totp_challenge_token = await challenge(service, person)
  const otp_code = nextCode(service, phone)
  for (const trust_device of [1, 'yes', null, [], {}]) {
    const answer = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code, trust_device })
    expect(answer.body).toMatchObject({ code: 'validation_failed', errors: { trust_device: [expect.any(String)] } })
  }
  const form = { totp_challenge_token, otp_code, trust_device: 'true' }
  const { body } = await service.call({ path: 'jwt/totp/verify/', form })
  expect(body.trusted_device).toEqual(expect.any(String))
})

describe.each(frameworks)('$name: the token of a trusted device in a cookie', (front) => {
  const cookie = '__Host-totp-device'

  test('travels there and nowhere else, out of reach of scripts and other sites', async () => {
    const service = await startService(front, { trustedDevices: { days: 30, cookie } })
    const enrolled = await enroll(service)
    const answer = await trust(service, enrolled)
    expect(answer.body).not.toHaveProperty('trusted_device')
    const [, token = ''] = /^__Host-totp-device=([\w=-]+); (.*)$/.exec(answer.headers['set-cookie'] ?? '') ?? []
    expect(answer.headers['set-cookie']).toMatch(
      /=[\w=-]+; Max-Age=2592000; Path=\/; Secure; HttpOnly; SameSite=Strict$/,
    )
    const { username, password } = enrolled.person
    const json = { username, password, trusted_device: token }
    expect((await service.call({ path: 'jwt/create/', json })).body).toMatchObject({ is_totp_enabled: true })
    const headers = { cookie: `other=1; ${cookie}=${token}; more=2` }
    const shown = await service.call({ path: 'jwt/create/', json: { username, password }, headers })
    expect(shown.body).toEqual({ is_totp_enabled: false, access: expect.any(String), refresh: expect.any(String) })
    expect(shown.headers['set-cookie']).toMatch(/^__Host-totp-device=/)
    expect(shown.headers['set-cookie']).not.toContain(token)
  })
})
