import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  enroll,
  logIn,
  logInWith,
  logInWithPhone,
  nextCode,
  type Session,
  STEP,
  sessionIn,
  wrongCode,
} from './actors.ts'
import { challengeIn } from './answer.ts'
import { EXPRESS, FETCH, frameworks, NODE, type Service, startService } from './harness.ts'

const MAX_AGE = 300

/** The calls of the original, without a body. */
const guarded = [
  { method: 'POST', path: 'totp/create/', outcome: '201' },
  { method: 'POST', path: 'totp/rotate_backup_codes/', outcome: '200' },
  { method: 'GET', path: 'totp/backup_codes/', outcome: '200' },
  { method: 'POST', path: 'totp/disable/', outcome: '204' },
]
const withCode = guarded.filter(({ method }) => method === 'POST')

/** The same session with a younger access token: the refresh changes nothing of what was proved, and when. */
async function refreshed(service: Service, { refresh }: Session): Promise<string> {
  const { outcome, body } = await service.post('jwt/refresh/', { refresh })
  expect(outcome).toBe('200')
  return String(body.access)
}

describe.each(frameworks)('$name: step-up', (front) => {
  test.each(guarded)('$path works with an empty body for 300 s after a login with a code', async (call) => {
    const service = await startService(front, { tokens: { accessTokenSeconds: 3600 } })
    const enrolled = await enroll(service)
    const session = await logInWithPhone(service, enrolled)
    service.clock.advance(MAX_AGE)
    const { outcome } = await service.call({ ...call, bearer: session.access })
    expect(outcome).toBe(call.outcome)
  })

  test.each(guarded)(
    '$path wants a fresh proof from second 301 on, however often the tokens are refreshed',
    async (call) => {
      const service = await startService(front)
      const enrolled = await enroll(service)
      const session = await logInWithPhone(service, enrolled)
      service.clock.advance(MAX_AGE + 1)
      const bearer = await refreshed(service, session)
      const answer = await service.call({ ...call, bearer })
      expect(answer.outcome).toBe('401 step_up_required')
      expect(challengeIn(answer)).toEqual({
        scheme: 'Bearer',
        parameters: { error: 'insufficient_user_authentication', acr_values: 'aal2', max_age: '300' },
      })
    },
  )

  test.each(guarded)(
    '$path is never open to an access token from before the second factor was proved',
    async (call) => {
      const service = await startService(front)
      const { session } = await enroll(service)
      expect((await service.call({ ...call, bearer: session.access })).outcome).toBe('401 step_up_required')
    },
  )

  test.each(guarded)('$path is open to the session that has just confirmed, refreshed or not', async (call) => {
    for (const isRefreshed of [false, true]) {
      const service = await startService(front)
      const { raised } = await enroll(service)
      const bearer = isRefreshed ? await refreshed(service, raised) : raised.access
      expect((await service.call({ ...call, bearer })).outcome).toBe(call.outcome)
    }
  })

  test.each(withCode)('$path takes a code of the app in the request itself, once', async (call) => {
    const service = await startService(front)
    const { session, phone } = await enroll(service)
    const wrong = { input_code: wrongCode(service, phone) }
    expect((await service.call({ ...call, bearer: session.access, json: wrong })).outcome).toBe('400 invalid_code')
    const right = { input_code: nextCode(service, phone) }
    expect((await service.call({ ...call, bearer: session.access, json: right })).outcome).toBe(call.outcome)
    if (call.path !== 'totp/disable/') {
      const again = await service.call({ ...call, bearer: session.access, json: right })
      expect(again.outcome).toBe('400 code_already_used')
    }
  })

  test.each(withCode)('$path takes a backup code in the request itself, once', async (call) => {
    const service = await startService(front)
    const { session, backupCodes } = await enroll(service)
    const json = { input_code: String(backupCodes[3]).toLowerCase().replaceAll('-', ' ') }
    expect((await service.call({ ...call, bearer: session.access, json })).outcome).toBe(call.outcome)
    if (call.path !== 'totp/disable/') {
      expect((await service.call({ ...call, bearer: session.access, json })).outcome).toBe('400 invalid_code')
    }
  })

  test('a wrong code in the request is refused even to a session with a fresh proof', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    const json = { input_code: wrongCode(service, enrolled.phone) }
    expect((await service.post('totp/disable/', json, access)).outcome).toBe('400 invalid_code')
  })

  test("another user's code is a wrong code", async () => {
    const service = await startService(front)
    const alice = await enroll(service, 'alice')
    const bob = await enroll(service, 'bob')
    const json = { input_code: nextCode(service, bob.phone) }
    expect((await service.post('totp/disable/', json, alice.session.access)).outcome).toBe('400 invalid_code')
    const backup = { input_code: bob.backupCodes[0] }
    expect((await service.post('totp/disable/', backup, alice.session.access)).outcome).toBe('400 invalid_code')
    await logInWith(service, bob.person, { backup_code: String(bob.backupCodes[0]) })
  })

  test('totp/verify makes a session fresh, and says what was proved', async () => {
    const service = await startService(front)
    const { session, person, phone, backupCodes } = await enroll(service)
    service.clock.advance(STEP)
    const at = service.clock.now()
    const byPhone = await service.post('totp/verify/', { otp_code: phone.codeAt(at) }, session.access)
    expect(byPhone.outcome).toBe('200')
    const raised = sessionIn(byPhone.body)
    expect(byPhone.body).toEqual({
      ...raised,
      verified_at: new Date(at * 1000).toISOString().replace('.000Z', 'Z'),
      amr: ['pwd', 'otp', 'mfa'],
    })
    expect(service.proofs.slice(1)).toMatchObject([{ userId: person.id, method: 'totp', verifiedAt: at }])
    expect((await service.get('totp/backup_codes/', raised.access)).outcome).toBe('200')
    expect((await service.get('totp/backup_codes/', session.access)).outcome).toBe('401 step_up_required')

    const byBackup = await service.post('totp/verify/', { backup_code: backupCodes[0] }, session.access)
    expect(byBackup.body.amr).toEqual(['pwd', 'mfa'])
    expect(service.proofs.slice(2)).toMatchObject([{ method: 'backup_code', backupCodesRemaining: 9 }])
    const again = await service.post('totp/verify/', { backup_code: backupCodes[0] }, session.access)
    expect(again.outcome).toBe('400 invalid_code')
    expect(service.proofs).toHaveLength(3)
  })

  test('a proof from before a change of factors is worth nothing after it', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const thief = await logInWithPhone(service, enrolled)
    const owner = await logInWithPhone(service, enrolled)
    const phone = await beginEnrollment(service, owner.access)
    const input_code = nextCode(service, phone)
    expect((await service.post('totp/confirm/', { input_code }, owner.access)).outcome).toBe('200')
    for (const { access } of [thief, owner]) {
      for (const call of guarded) {
        expect((await service.call({ ...call, bearer: access })).outcome).toBe('401 step_up_required')
      }
    }
    const fresh = await logInWithPhone(service, { ...enrolled, phone })
    expect((await service.post('totp/disable/', undefined, fresh.access)).outcome).toBe('204')
  })

  test('a proof from the very second of a change of credentials is worth nothing after it', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    await service.totp.credentialsChanged(enrolled.person.id)
    for (const call of guarded) {
      expect((await service.call({ ...call, bearer: access })).outcome).toBe('401 step_up_required')
    }
    const [backup_code] = enrolled.backupCodes
    const fresh = await logInWith(service, enrolled.person, { backup_code: String(backup_code) })
    expect((await service.post('totp/disable/', undefined, fresh.access)).outcome).toBe('204')
  })

  test('a session that survives its own change is fresh after it, a copy of its old token is not', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    const phone = await beginEnrollment(service, access)
    const input_code = nextCode(service, phone)
    const confirmed = await service.post('totp/confirm/', { input_code }, access)
    const kept = await service.post('jwt/refresh/', { refresh: confirmed.body.refresh })
    const codes = (token: string) => service.get('totp/backup_codes/', token)
    expect((await codes(access)).outcome).toBe('401 step_up_required')
    expect((await codes(String(kept.body.access))).outcome).toBe('200')
    service.clock.advance(302)
    const later = await service.post('jwt/refresh/', { refresh: kept.body.refresh })
    expect((await codes(String(later.body.access))).outcome, 'no younger than it was').toBe('401 step_up_required')
  })

  test('a proof from before 2FA was switched off and on again is worth nothing', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const stolen = await logInWithPhone(service, enrolled)
    const owner = await logInWithPhone(service, enrolled)
    await service.post('totp/disable/', undefined, owner.access)
    const phone = await beginEnrollment(service, owner.access)
    await service.post('totp/confirm/', { input_code: nextCode(service, phone) }, owner.access)
    expect((await service.post('totp/disable/', undefined, stolen.access)).outcome).toBe('401 step_up_required')
  })

  test('a proof from before a change of password is worth nothing after it', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    service.clock.advance(1)
    await service.totp.credentialsChanged(enrolled.person.id)
    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('401 step_up_required')
  })
})

describe.each([NODE, EXPRESS, FETCH])('$name: step-up as the host chooses', (front) => {
  test('off, it gives the behavior of the original: a session is enough', async () => {
    for (const call of guarded) {
      const service = await startService(front, { stepUp: false })
      const { session } = await enroll(service)
      service.clock.advance(STEP)
      expect((await service.call({ ...call, bearer: session.access })).outcome).toBe(call.outcome)
    }
  })

  test('the age that the host allows is the one that is asked and told', async () => {
    const service = await startService(front, { stepUp: { maxAgeSeconds: 60 }, tokens: { accessTokenSeconds: 3600 } })
    const enrolled = await enroll(service)
    const { access } = await logInWithPhone(service, enrolled)
    service.clock.advance(60)
    expect((await service.get('totp/backup_codes/', access)).outcome).toBe('200')
    service.clock.advance(1)
    const answer = await service.get('totp/backup_codes/', access)
    expect(answer.outcome).toBe('401 step_up_required')
    expect(challengeIn(answer).parameters.max_age).toBe('60')
  })

  test('where 2FA is off nobody is asked', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    expect((await service.post('totp/create/', { input_code: '123456' }, access)).outcome).toBe('201')
    expect((await service.post('totp/create/', undefined, access)).outcome).toBe('201')
  })
})
