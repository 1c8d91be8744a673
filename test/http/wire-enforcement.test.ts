import { authenticatorFor } from 'totp-kit/testing'
import { describe, expect, test } from 'vitest'
import { enroll, logIn, logInWithPhone } from './actors.ts'
import { frameworks, NODE, NOON, type Person, type Service, startService } from './harness.ts'
import { callerRows } from './rows.ts'

const dueAt = (from: number | boolean) => ({
  enforcement: {
    required: ({ username }: Person) => username !== 'guest' && (typeof from === 'boolean' ? from : { from }),
    accountName: ({ email }: Person) => email,
  },
})

async function enrollmentToken(service: Service, { username, password }: Person): Promise<string> {
  const { body } = await service.post('jwt/create/', { username, password })
  expect(body).toEqual({
    is_totp_enabled: false,
    must_enroll: true,
    enrollment_token: expect.any(String),
    expires_in: 900,
  })
  return String(body.enrollment_token)
}

describe.each(frameworks)('$name: a user who must have a second factor and has none', (front) => {
  test('gets a token that opens enrollment and nothing else', async () => {
    const service = await startService(front, dueAt(true))
    const person = service.register('alice')
    const token = await enrollmentToken(service, person)
    for (const { operationId, method, path, required } of callerRows) {
      if (['createTotpSetup', 'confirmTotpSetup', 'getStatus'].includes(operationId)) continue
      const json = method === 'GET' ? undefined : required
      const { outcome } = await service.call({ method, path, json, bearer: token })
      expect(outcome, operationId).toBe('401 unauthenticated')
    }
    expect((await service.send({ method: 'GET', path: '/vault', bearer: token })).status).toBe(401)
    expect((await service.post('jwt/refresh/', { refresh: token })).outcome).toBe('401 invalid_token')
    expect((await service.post('jwt/verify/', { token })).outcome).toBe('401 invalid_token')
    const asChallenge = { totp_challenge_token: token, otp_code: '123456' }
    expect((await service.post('jwt/totp/verify/', asChallenge)).outcome).toBe('400 challenge_invalid')

    expect((await service.get('totp/status/', token)).body.is_totp_enabled).toBe(false)
    const created = await service.post('totp/create/', undefined, token)
    const phone = authenticatorFor(String(created.body.uri))
    expect(phone.accountName).toBe(person.email)
    const input_code = phone.codeAt(service.clock.now())
    const confirmed = await service.post('totp/confirm/', { input_code }, token)
    expect(confirmed.body.backup_codes).toHaveLength(10)
    expect((await service.get('totp/status/', token)).outcome, 'it dies with what it was for').toBe(
      '401 unauthenticated',
    )
    await logInWithPhone(service, { person, phone })
  })

  test('has time until the day that is set', async () => {
    const service = await startService(front, dueAt(NOON + 86_400))
    const person = service.register('alice')
    await logIn(service, person)
    service.clock.advance(86_399)
    await logIn(service, person)
    service.clock.advance(1)
    await enrollmentToken(service, person)
  })

  test('cannot enroll any more when the token has expired or the account is closed', async () => {
    const service = await startService(front, dueAt(true))
    const [alice, bob] = [service.register('alice'), service.register('bob')]
    const [first, second] = [await enrollmentToken(service, alice), await enrollmentToken(service, bob)]
    service.deactivated.add(bob.id)
    expect((await service.post('totp/create/', undefined, second)).outcome).toBe('401 unauthenticated')
    service.clock.advance(15 * 60 + 1)
    expect((await service.post('totp/create/', undefined, first)).outcome).toBe('401 unauthenticated')
  })

  test('the others log in as ever', async () => {
    const service = await startService(front, dueAt(true))
    await logIn(service, service.register('guest'))
  })
})

test('a forecast counts whom a policy would ask and shut out, and changes nothing', async () => {
  const service = await startService(NODE)
  await enroll(service, 'has-it')
  const names = ['must', 'must-soon', 'need-not', 'gone']
  const people = names.map((name) => service.register(name))
  service.deactivated.add(String(people[3]?.id))
  const rules: Record<string, boolean | { from: number }> = {
    'has-it': true,
    must: true,
    'must-soon': { from: service.clock.now() + 1 },
    'need-not': false,
  }
  const ids = ['1', ...people.map(({ id }) => id)]
  const forecast = await service.totp.forecastEnforcement(ids, ({ username }) => rules[username] ?? false)
  expect(forecast).toEqual({ users: 4, enabled: 1, asked: 1, shutOut: 1 })
  for (const person of people.slice(0, 3)) await logIn(service, person)
})
