import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  challenge,
  type Enrolled,
  enroll,
  logIn,
  logInWith,
  logInWithPhone,
  nextCode,
  STEP,
  sessionIn,
  wrongCode,
} from './actors.ts'
import { type Answer, waitIn } from './answer.ts'
import { FETCH, frameworks, NODE, type Service, startService } from './harness.ts'

const WRONG_BACKUP_CODE = 'AAAA-AAAA-AAAA-AAAA'
const DAY = 86_400

/** Long enough for every wait. */
const longSessions = { tokens: { accessTokenSeconds: DAY } }

function fail(service: Service, { session, phone }: Enrolled): Promise<Answer> {
  return service.post('totp/verify/', { otp_code: wrongCode(service, phone) }, session.access)
}

async function failTimes(service: Service, enrolled: Enrolled, times: number): Promise<void> {
  for (let n = 0; n < times; n++) expect((await fail(service, enrolled)).outcome).toBe('400 invalid_code')
}

describe.each(frameworks)('$name: wrong codes', (front) => {
  test('delay the next one from the fifth on: 30 s, doubling to 15 minutes', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    await failTimes(service, enrolled, 4)
    for (const seconds of [30, 60, 120, 240, 480, 900, 900, 900]) {
      expect((await fail(service, enrolled)).outcome).toBe('400 invalid_code')
      const delayed = await fail(service, enrolled)
      expect(delayed.outcome).toBe('429 too_many_attempts')
      expect(waitIn(delayed)).toEqual({
        retryAfterSeconds: seconds,
        remaining: 0,
        resetSeconds: seconds,
        quota: 1,
        windowSeconds: seconds,
      })
      const until = new Date((service.clock.now() + seconds) * 1000).toISOString().replace('.000Z', 'Z')
      expect((await service.get('totp/status/', enrolled.session.access)).body.locked_until).toBe(until)
      service.clock.advance(seconds - 1)
      expect(waitIn(await fail(service, enrolled)).retryAfterSeconds).toBe(1)
      service.clock.advance(1)
      expect((await service.get('totp/status/', enrolled.session.access)).body.locked_until).toBeNull()
    }
  })

  test('refuse a right one during the delay, unspent; afterwards it begins a new count', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    service.clock.advance(STEP)
    await failTimes(service, enrolled, 5)
    const code = enrolled.phone.codeAt(service.clock.now())
    const verify = (otp_code: string) => service.post('totp/verify/', { otp_code }, enrolled.session.access)
    for (let n = 0; n < 5; n++) expect((await verify(code)).outcome).toBe('429 too_many_attempts')
    service.clock.advance(30)
    expect((await verify(code)).outcome).toBe('200')
    await failTimes(service, enrolled, 4)
    expect((await verify(nextCode(service, enrolled.phone))).outcome).toBe('200')
    await failTimes(service, enrolled, 5)
    expect((await fail(service, enrolled)).outcome).toBe('429 too_many_attempts')
  })

  test('count together, whatever they were typed into', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    const { person, session, phone } = enrolled
    const pending = await beginEnrollment(service, session.access, { input_code: nextCode(service, phone) })
    const other = await challenge(service, person)
    const input_code = wrongCode(service, phone)
    const typed = [
      () => service.post('jwt/totp/verify/', { totp_challenge_token: other, otp_code: input_code }),
      () => service.post('totp/verify/', { otp_code: input_code }, session.access),
      () => service.post('totp/confirm/', { input_code: wrongCode(service, pending) }, session.access),
      () => service.post('totp/disable/', { input_code }, session.access),
      () => service.post('totp/create/', { input_code }, session.access),
    ]
    for (const type of typed) expect((await type()).outcome).toBe('400 invalid_code')
    typed.push(() => service.post('totp/rotate_backup_codes/', { input_code }, session.access))
    for (const type of typed) expect((await type()).outcome).toBe('429 too_many_attempts')
  })

  test('of an enrollment that is not confirmed yet count, and a new enrollment does not take them back', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    for (let n = 0; n < 5; n++) {
      const phone = await beginEnrollment(service, access)
      const answer = await service.post('totp/confirm/', { input_code: wrongCode(service, phone) }, access)
      expect(answer.outcome).toBe('400 invalid_code')
      expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('204')
    }
    const phone = await beginEnrollment(service, access)
    const input_code = phone.codeAt(service.clock.now())
    const delayed = await service.post('totp/confirm/', { input_code }, access)
    expect(delayed.outcome).toBe('429 too_many_attempts')
    expect(waitIn(delayed).retryAfterSeconds).toBe(30)
    service.clock.advance(30)
    const confirm = await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, access)
    expect(confirm.outcome).toBe('200')
  })

  test('that were right and spent before cost nothing, and tell when the app shows the next code', async () => {
    const service = await startService(front)
    const { person, phone, session, confirmingCode } = await enroll(service)
    const verify = (otp_code: string) => service.post('totp/verify/', { otp_code }, session.access)
    for (let n = 0; n < 20; n++) {
      const replayed = await verify(confirmingCode)
      expect(replayed.outcome).toBe('400 code_already_used')
      expect(replayed.body).toMatchObject({ attempts_left: 5, retry_after_seconds: STEP })
    }
    service.clock.advance(7)
    expect((await verify(confirmingCode)).body).toMatchObject({ retry_after_seconds: STEP - 7 })
    expect((await verify(wrongCode(service, phone))).body).toMatchObject({ attempts_left: 4 })
    expect((await verify(confirmingCode)).body).toMatchObject({ attempts_left: 4 })
    service.clock.advance(STEP - 7)
    await logInWith(service, person, { otp_code: phone.codeAt(service.clock.now()) })
  })

  test('that were spent are refused like any other while one has to wait', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { session, confirmingCode: otp_code } = enrolled
    for (let n = 0; n < 5; n++) await fail(service, enrolled)
    const refused = await service.post('totp/verify/', { otp_code }, session.access)
    expect(refused.outcome).toBe('429 too_many_attempts')
    expect(refused.body.retry_after_seconds).toBe(30)
  })

  test('in any number at once are judged no more than five', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const answers = await Promise.all(Array.from({ length: 20 }, () => fail(service, enrolled)))
    expect(answers.filter(({ outcome }) => outcome === '400 invalid_code')).toHaveLength(5)
    expect(answers.filter(({ outcome }) => outcome === '429 too_many_attempts')).toHaveLength(15)
  })

  test('of one user delay nobody else', async () => {
    const service = await startService(front)
    const alice = await enroll(service, 'alice')
    const bob = await enroll(service, 'bob')
    await failTimes(service, alice, 5)
    await logInWithPhone(service, bob)
  })

  test('cannot be spent by someone without the first factor', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { username } = enrolled.person
    for (let n = 0; n < 6; n++) {
      await service.post('jwt/create/', { username, password: 'wrong horse' })
      await service.post('jwt/totp/verify/', { totp_challenge_token: 'not-a-token', otp_code: '123456' })
      await service.post('totp/verify/', { otp_code: '123456' })
    }
    await logInWithPhone(service, enrolled)
  })
})

describe.each(frameworks)('$name: backup codes', (front) => {
  test('go on working while the codes of the app are delayed', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    await failTimes(service, enrolled, 5)
    expect((await fail(service, enrolled)).outcome).toBe('429 too_many_attempts')
    await logInWith(service, enrolled.person, { backup_code: String(enrolled.backupCodes[0]) })
    expect((await fail(service, enrolled)).outcome).toBe('429 too_many_attempts')
  })

  test('have a budget of their own', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { session, backupCodes } = enrolled
    const verify = (backup_code: unknown) => service.post('totp/verify/', { backup_code }, session.access)
    for (let n = 0; n < 5; n++) expect((await verify(WRONG_BACKUP_CODE)).outcome).toBe('400 invalid_code')
    const delayed = await verify(backupCodes[0])
    expect(delayed.outcome).toBe('429 too_many_attempts')
    expect(waitIn(delayed).retryAfterSeconds).toBe(30)
    const disable = await service.post('totp/disable/', { input_code: backupCodes[0] }, session.access)
    expect(disable.outcome).toBe('429 too_many_attempts')
    await logInWithPhone(service, enrolled)
    expect((await verify(backupCodes[0])).outcome).toBe('200')
  })
})

describe.each([FETCH, NODE])('$name: a hundred wrong codes in a row', (front) => {
  test('lock the second factor: time does not help, a backup code does', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    const { person, phone, backupCodes } = enrolled
    await failTimes(service, enrolled, 4)
    for (let n = 5; n <= 100; n++) {
      expect((await fail(service, enrolled)).outcome).toBe('400 invalid_code')
      service.clock.advance(900)
      if (n % 50 === 0) {
        const { body } = await service.post('jwt/refresh/', { refresh: enrolled.session.refresh })
        enrolled.session = sessionIn(body)
      }
    }
    const locked = await fail(service, enrolled)
    expect(locked.outcome).toBe('403 second_factor_locked')
    expect(locked.headers).not.toHaveProperty('retry-after')
    const status = await service.get('totp/status/', enrolled.session.access)
    expect(status.body.locked_until).toBe('9999-12-31T23:59:59Z')

    service.clock.advance(365 * DAY)
    const totp_challenge_token = await challenge(service, person)
    const right = phone.codeAt(service.clock.now())
    const login = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: right })
    expect(login.outcome).toBe('403 second_factor_locked')

    const { access } = await logInWith(service, person, { backup_code: String(backupCodes[0]) })
    expect((await service.post('totp/verify/', { otp_code: right }, access)).outcome).toBe('403 second_factor_locked')
    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('204')
    const next = await beginEnrollment(service, access)
    const confirm = await service.post('totp/confirm/', { input_code: next.codeAt(service.clock.now()) }, access)
    expect(confirm.outcome).toBe('200')
  })

  test.each(['dropped', 'begun anew'])(
    'lock an enrollment that was never confirmed, until it is %s: nobody is kept from enrolling for ever',
    async (how) => {
      const service = await startService(front, longSessions)
      const { access } = await logIn(service, service.register('alice'))
      const confirm = (input_code: string) => service.post('totp/confirm/', { input_code }, access)
      const again = () => beginEnrollment(service, access)
      let phone = await again()
      for (let n = 1; n <= 100; n++) {
        if (n > 5) service.clock.advance(Math.min(30 * 2 ** (n - 6), 900))
        phone = await again()
        expect((await confirm(wrongCode(service, phone))).outcome).toBe('400 invalid_code')
      }
      expect((await confirm(phone.codeAt(service.clock.now()))).outcome).toBe('403 second_factor_locked')
      service.clock.advance(899)
      if (how === 'dropped') expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('204')
      phone = await again()
      const early = await confirm(phone.codeAt(service.clock.now()))
      expect(early.outcome, 'the delay stays').toBe('429 too_many_attempts')
      service.clock.advance(1)
      expect((await confirm(phone.codeAt(service.clock.now()))).outcome).toBe('200')
    },
  )
})

describe.each([FETCH])('$name: three hundred wrong codes in thirty days', (front) => {
  test('are the most, with successes in between', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    const { session, phone } = enrolled
    for (let n = 0; n < 75; n++) {
      await failTimes(service, enrolled, 4)
      const otp_code = nextCode(service, phone)
      const answer = await service.post('totp/verify/', { otp_code }, session.access)
      expect(answer.outcome).toBe(n < 74 ? '200' : '429 too_many_attempts')
    }
    const delayed = await fail(service, enrolled)
    expect(delayed.outcome).toBe('429 too_many_attempts')
    const { retryAfterSeconds } = waitIn(delayed)
    expect(retryAfterSeconds).toBeGreaterThan(0)
    expect(retryAfterSeconds).toBeLessThanOrEqual(60 * DAY)
    service.clock.advance(retryAfterSeconds)
    await logInWithPhone(service, enrolled)
  })
})
