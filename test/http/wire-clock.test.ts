import type { TotpEvent } from 'totp-kit'
import { describe, expect, test } from 'vitest'
import { beginEnrollment, type Enrolled, enroll, logIn } from './actors.ts'
import { frameworks, NODE, type Service, startService } from './harness.ts'

const longSessions = { tokens: { accessTokenSeconds: 86_400 } }

/** Types what a phone shows whose clock is off by so many seconds. */
function typeFrom(service: Service, { session, phone }: Enrolled, offsetSeconds: number) {
  const otp_code = phone.codeAt(service.clock.now() + offsetSeconds)
  return service.post('totp/verify/', { otp_code }, session.access)
}

describe.each(frameworks)('$name: a phone with a wrong clock', (front) => {
  test('is told how wrong, and is known again by its very next code', async () => {
    for (const [offset, words] of [
      [-90, "Your phone's clock is about 90 seconds slow"],
      [120, "Your phone's clock is about 120 seconds fast"],
      [-300, "Your phone's clock is about 300 seconds slow"],
    ] as const) {
      const service = await startService(front, longSessions)
      const enrolled = await enroll(service)
      const resynchronized: TotpEvent[] = []
      service.totp.on('totp.resynchronized', (event) => void resynchronized.push(event))
      service.clock.advance(1200)
      const refused = await typeFrom(service, enrolled, offset)
      expect(refused.outcome).toBe('400 invalid_code')
      expect(refused.body).toMatchObject({ clock_offset_seconds: offset, attempts_left: 4 })
      expect(refused.body.detail).toContain(words)
      service.clock.advance(30)
      expect((await typeFrom(service, enrolled, offset)).outcome).toBe('200')
      expect(resynchronized).toMatchObject([{ clockOffsetSeconds: offset }])
      service.clock.advance(600)
      expect((await typeFrom(service, enrolled, offset)).outcome, 'and from then on by one').toBe('200')
      expect((await typeFrom(service, enrolled, offset)).outcome).toBe('400 code_already_used')
    }
  })

  test('needs two codes in a row: the same again, one left out, one of another time do not do', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    service.clock.advance(1200)
    expect((await typeFrom(service, enrolled, -120)).body).toMatchObject({ clock_offset_seconds: -120 })
    expect((await typeFrom(service, enrolled, -120)).outcome).toBe('400 invalid_code')
    expect((await typeFrom(service, enrolled, -60)).outcome, 'one left out').toBe('400 invalid_code')
    expect((await typeFrom(service, enrolled, -300)).outcome).toBe('400 invalid_code')
    service.clock.advance(3600)
    expect((await typeFrom(service, enrolled, 0)).outcome).toBe('200')
  })

  test('a code that was answered with when it will be right is not right then: a guesser would have been told', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    service.clock.advance(1200)
    const guessed = enrolled.phone.codeAt(service.clock.now() + 120)
    const verify = () => service.post('totp/verify/', { otp_code: guessed }, enrolled.session.access)
    expect((await verify()).body).toMatchObject({ code: 'invalid_code', clock_offset_seconds: 120 })
    for (let seconds = 90; seconds >= -60; seconds -= 30) {
      service.clock.advance(30)
      expect((await verify()).outcome, `${seconds} s early`).toBe('400 invalid_code')
      await service.totp.unlock(enrolled.person.id)
    }
    expect((await typeFrom(service, enrolled, 0)).outcome, 'the phone itself goes on').toBe('200')
  })

  test('such a code is not right then either when one of another time was typed after it', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    service.clock.advance(1200)
    const guessed = enrolled.phone.codeAt(service.clock.now() + 150)
    const verify = (otp_code: string) => service.post('totp/verify/', { otp_code }, enrolled.session.access)
    expect((await verify(guessed)).body).toMatchObject({ clock_offset_seconds: 150 })
    expect((await typeFrom(service, enrolled, -150)).body, 'an old code').toMatchObject({ clock_offset_seconds: -150 })
    service.clock.advance(150)
    expect((await verify(guessed)).outcome).toBe('400 invalid_code')
  })

  test.each([15, 60, 120])('of %d s a step is not followed further than five minutes', async (periodSeconds) => {
    for (const [offset, isFollowed] of [
      [-300, true],
      [-300 - periodSeconds, false],
    ] as const) {
      const service = await startService(front, { ...longSessions, totp: { periodSeconds } })
      const enrolled = await enroll(service)
      service.clock.advance(periodSeconds * 50)
      const steps = Math.trunc(offset / periodSeconds)
      const first = await typeFrom(service, enrolled, steps * periodSeconds)
      expect(first.outcome).toBe('400 invalid_code')
      expect(first.body.clock_offset_seconds).toBe(isFollowed ? steps * periodSeconds : undefined)
      service.clock.advance(periodSeconds)
      const second = await typeFrom(service, enrolled, steps * periodSeconds)
      expect(second.outcome).toBe(isFollowed ? '200' : '400 invalid_code')
    }
  })

  test('is not followed further than five minutes', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    service.clock.advance(1200)
    for (const seconds of [-330, -300, 330, 360]) {
      service.clock.advance(3600)
      const refused = await typeFrom(service, enrolled, seconds)
      expect(refused.outcome).toBe('400 invalid_code')
      if (Math.abs(seconds) > 300) expect(refused.body).not.toHaveProperty('clock_offset_seconds')
      service.clock.advance(30)
      if (Math.abs(seconds) > 300) {
        expect((await typeFrom(service, enrolled, seconds)).outcome).toBe('400 invalid_code')
      }
      service.clock.advance(3600)
      expect((await typeFrom(service, enrolled, 0)).outcome).toBe('200')
    }
  })

  test('that drifts slowly is followed without anybody noticing', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    for (let offset = 0; offset >= -300; offset -= 30) {
      service.clock.advance(3600)
      expect((await typeFrom(service, enrolled, offset)).outcome, String(offset)).toBe('200')
    }
    service.clock.advance(3600)
    const right = await typeFrom(service, enrolled, 0)
    expect(right.outcome, 'set right again, it is known by two codes').toBe('400 invalid_code')
    expect(right.body, 'and is not called wrong').not.toHaveProperty('clock_offset_seconds')
    service.clock.advance(30)
    expect((await typeFrom(service, enrolled, 0)).outcome).toBe('200')
  })

  test('a step that was spent stays spent, however the clock is thought to be', async () => {
    const service = await startService(front, longSessions)
    const enrolled = await enroll(service)
    service.clock.advance(600)
    const old = [0, 30].map((seconds) => enrolled.phone.codeAt(service.clock.now() + seconds))
    for (const otp_code of old) {
      await service.post('totp/verify/', { otp_code }, enrolled.session.access)
      service.clock.advance(30)
    }
    service.clock.advance(120)
    const verify = (otp_code: string | undefined) => service.post('totp/verify/', { otp_code }, enrolled.session.access)
    expect((await verify(old[0])).outcome).toBe('400 invalid_code')
    expect((await verify(old[1])).outcome, 'two spent codes in a row open nothing').toBe('400 code_already_used')
  })

  test('can enroll: the confirming code is judged in the same way', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const phone = await beginEnrollment(service, access)
    const confirm = () => {
      const input_code = phone.codeAt(service.clock.now() - 180)
      return service.post('totp/confirm/', { input_code }, access)
    }
    expect((await confirm()).body).toMatchObject({ code: 'invalid_code', clock_offset_seconds: -180 })
    service.clock.advance(30)
    expect((await confirm()).outcome).toBe('200')
    service.clock.advance(30)
    const otp_code = phone.codeAt(service.clock.now() - 180)
    expect((await service.post('totp/verify/', { otp_code }, access)).outcome).toBe('200')
  })
})

test('nobody who has not passed the first factor is told anything of a clock', async () => {
  const service = await startService(NODE)
  const { phone } = await enroll(service)
  const otp_code = phone.codeAt(service.clock.now() - 120)
  for (const bearer of [undefined, 'not-a-token']) {
    const answer = await service.post('totp/verify/', { otp_code }, bearer)
    expect(answer.text).not.toContain('clock')
  }
  const answer = await service.post('jwt/totp/verify/', { totp_challenge_token: 'not-a-token', otp_code })
  expect(answer.text).not.toContain('clock')
})
