import { describe, expect, test } from 'vitest'
import { beginEnrollment, type Enrolled, enroll, logIn, logInWithPhone, nextCode, wrongCode } from './actors.ts'
import { frameworks, type Service, startService } from './harness.ts'

const two = { maxAuthenticators: 2, tokens: { accessTokenSeconds: 86_400 } }

interface Listed {
  id: string
  name: string | null
  created_at: string
  last_used_at: string | null
}

async function authenticatorsOf(service: Service, bearer: string): Promise<Listed[]> {
  return (await service.get('totp/status/', bearer)).body.authenticators as Listed[]
}

/** Adds a phone to someone's, in a fresh session of theirs. */
async function addPhone(service: Service, enrolled: Enrolled, name: string) {
  const { access } = await logInWithPhone(service, enrolled)
  const phone = await beginEnrollment(service, access, { name })
  service.clock.advance(30)
  const input_code = phone.codeAt(service.clock.now())
  const confirmed = await service.post('totp/confirm/', { input_code }, access)
  return { phone, access, confirmed }
}

describe.each(frameworks)('$name: a further authenticator', (front) => {
  test('stands beside the first: both log in, the backup codes stay', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const { phone, access, confirmed } = await addPhone(service, enrolled, 'Tablet')
    expect(confirmed.body).toEqual({ backup_codes: null, access: expect.any(String), refresh: expect.any(String) })
    const listed = await authenticatorsOf(service, access)
    expect(listed.map(({ name }) => name)).toEqual([null, 'Tablet'])
    await logInWithPhone(service, enrolled)
    await logInWithPhone(service, { ...enrolled, phone })
    expect((await service.get('totp/status/', access)).body.backup_codes_remaining).toBe(10)
  })

  test('keeps its own replay: a code of one does not use up the other, and none works twice', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const { phone, access } = await addPhone(service, enrolled, 'Tablet')
    service.clock.advance(30)
    const at = service.clock.now()
    const verify = (otp_code: string) => service.post('totp/verify/', { otp_code }, access)
    expect((await verify(enrolled.phone.codeAt(at))).outcome).toBe('200')
    expect((await verify(phone.codeAt(at))).outcome).toBe('200')
    expect((await verify(enrolled.phone.codeAt(at))).outcome).toBe('400 code_already_used')
    expect((await verify(phone.codeAt(at))).outcome).toBe('400 code_already_used')
  })

  test('shares the failure budget with the others', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const { phone, access } = await addPhone(service, enrolled, 'Tablet')
    for (const shown of [enrolled.phone, phone, enrolled.phone, phone, phone]) {
      const otp_code = wrongCode(service, shown)
      expect((await service.post('totp/verify/', { otp_code }, access)).outcome).toBe('400 invalid_code')
    }
    const otp_code = phone.codeAt(service.clock.now() + 30)
    expect((await service.post('totp/verify/', { otp_code }, access)).outcome).toBe('429 too_many_attempts')
  })

  test('takes the place of the one used least lately where there are as many as may be', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const tablet = await addPhone(service, enrolled, 'Tablet')
    await logInWithPhone(service, enrolled)
    const watch = await addPhone(service, enrolled, 'Watch')
    expect((await authenticatorsOf(service, watch.access)).map(({ name }) => name)).toEqual([null, 'Watch'])
    const otp_code = nextCode(service, tablet.phone)
    expect((await service.post('totp/verify/', { otp_code }, watch.access)).outcome).toBe('400 invalid_code')
    await logInWithPhone(service, enrolled)
    await logInWithPhone(service, { ...enrolled, phone: watch.phone })
  })

  test('is removed with a fresh factor, and its codes with it', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const bob = await enroll(service, 'bob')
    const { phone, access } = await addPhone(service, enrolled, 'Tablet')
    const tablet = (await authenticatorsOf(service, access)).find(({ name }) => name === 'Tablet')
    const remove = (bearer?: string, json?: object, id = tablet?.id) =>
      service.call({ method: 'DELETE', path: `totp/authenticators/${id}/`, bearer, json })

    expect((await remove()).outcome).toBe('401 unauthenticated')
    expect((await remove((await logInWithPhone(service, bob)).access)).outcome).toBe('404 not_found')
    service.clock.advance(301)
    expect((await remove(access)).outcome).toBe('401 step_up_required')
    expect((await remove(access, { input_code: wrongCode(service, phone) })).outcome).toBe('400 invalid_code')
    const removed = await remove(access, { input_code: nextCode(service, enrolled.phone) })
    expect(removed.outcome).toBe('204')

    const fresh = await logInWithPhone(service, enrolled)
    expect((await authenticatorsOf(service, fresh.access)).map(({ name }) => name)).toEqual([null])
    const otp_code = nextCode(service, phone)
    expect((await service.post('totp/verify/', { otp_code }, fresh.access)).outcome).toBe('400 invalid_code')
    expect((await remove(fresh.access)).outcome).toBe('404 not_found')
    expect((await remove(fresh.access, undefined, 'no-such-id')).outcome).toBe('404 not_found')
  })

  test('that is not there costs no code; without a code the step-up comes first', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    service.clock.advance(301)
    const remove = (id: string, json?: object) =>
      service.call({ method: 'DELETE', path: `totp/authenticators/${id}/`, bearer: access, json })
    const input_code = nextCode(service, enrolled.phone)

    expect((await remove('no-such-id')).outcome).toBe('401 step_up_required')
    expect((await remove('no-such-id', { input_code })).outcome).toBe('404 not_found')
    expect((await remove('no-such-id', { input_code: wrongCode(service, enrolled.phone) })).outcome).toBe(
      '404 not_found',
    )

    expect((await service.post('totp/verify/', { otp_code: input_code }, access)).outcome).toBe('200')
  })

  test('the last one is never removed, however many removals come at once', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    await addPhone(service, enrolled, 'Tablet')
    const { access } = await logInWithPhone(service, enrolled)
    const ids = (await authenticatorsOf(service, access)).map(({ id }) => id)
    const remove = (id: string) =>
      service.call({ method: 'DELETE', path: `totp/authenticators/${id}/`, bearer: access })
    await Promise.all([...ids, ...ids, ...ids].map(remove))
    const left = await authenticatorsOf(service, access)
    expect(left).toHaveLength(1)
    expect((await remove(String(left[0]?.id))).outcome).toMatch(/^(400 validation_failed|401 step_up_required)$/)
    expect((await service.totp.getStatus(enrolled.person.id)).authenticators).toHaveLength(1)
  })

  test('ends the other sessions, and not the one that added it', async () => {
    const service = await startService(front, two)
    const enrolled = await enroll(service)
    const other = await logInWithPhone(service, enrolled)
    const { access } = await addPhone(service, enrolled, 'Tablet')
    expect((await service.post('jwt/refresh/', { refresh: other.refresh })).outcome).toBe('401 invalid_token')
    expect((await service.post('jwt/verify/', { token: access })).outcome).toBe('200')
  })
})

describe.each(frameworks)('$name: the last authenticator', (front) => {
  test('cannot be removed by itself: 2FA is switched off instead', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    const [only] = await authenticatorsOf(service, access)
    const path = `totp/authenticators/${only?.id}/`
    const answer = await service.call({ method: 'DELETE', path, bearer: access })
    expect(answer.body).toMatchObject({ code: 'validation_failed', errors: { id: [expect.any(String)] } })
    expect((await service.get('totp/status/', access)).body.is_totp_enabled).toBe(true)
    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('204')
  })

  test('is not there while 2FA is off', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const call = { method: 'DELETE', path: 'totp/authenticators/any/', bearer: access }
    expect((await service.call(call)).outcome).toBe('404 not_found')
  })
})
