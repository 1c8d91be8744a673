import { describe, expect, test } from 'vitest'
import { beginEnrollment, challenge, type Enrolled, enroll, linkIn, logIn, logInWithPhone, nextCode } from './actors.ts'
import { waitIn } from './answer.ts'
import { frameworks, NODE, type Service, startService } from './harness.ts'

const ANSWER = {
  details: 'If an account with that email exists and has TOTP enabled, a recovery email has been sent.',
}

/** Asks for a link and reads it out of the mail. */
async function linkFor(service: Service, { person }: Pick<Enrolled, 'person'>) {
  const before = service.mails.length
  expect((await service.post('totp/recovery/', { email: person.email })).outcome).toBe('200')
  await service.mailed(before + 1)
  const mail = service.mails[before]
  if (mail === undefined) throw new Error('no mail')
  return linkIn(mail)
}

const confirm = (service: Service, link: object, password: string) =>
  service.post('totp/recovery_confirm/', { ...link, password })

describe.each(frameworks)('$name: recovery', (front) => {
  test('switches 2FA off with link and password, ends the sessions, and works once', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const { person, session } = enrolled
    const link = await linkFor(service, enrolled)
    const answers = await Promise.all(Array.from({ length: 10 }, () => confirm(service, link, person.password)))
    expect(answers.filter(({ status }) => status === 204)).toHaveLength(1)
    expect((await confirm(service, link, person.password)).outcome).toBe('400 recovery_link_invalid')
    expect((await service.post('jwt/refresh/', { refresh: session.refresh })).outcome).toBe('401 invalid_token')
    const { access } = await logIn(service, person)
    expect((await service.get('totp/status/', access)).body).toMatchObject({
      is_totp_enabled: false,
      backup_codes_remaining: 0,
      authenticators: [],
    })
  })

  test('is asked for with an address: what is none is refused', async () => {
    const service = await startService(front)
    for (const email of ['no address', 'alice', '@example.com', 'alice@', 'a b@example.com']) {
      const answer = await service.post('totp/recovery/', { email })
      expect(answer.outcome).toBe('400 validation_failed')
      expect(answer.body.errors).toEqual({ email: ['This field must be an email address.'] })
    }
  })

  test('answers the same whatever is true, and mails only to whom it is due', async () => {
    const service = await startService(front)
    const { person } = await enroll(service)
    const without = service.register('bob')
    const gone = await enroll(service, 'carol')
    service.deactivated.add(gone.person.id)
    const asked = [person.email, without.email, gone.person.email, 'nobody@example.com', `  ${person.email} `]
    const answers = await Promise.all(asked.map((email) => service.post('totp/recovery/', { email })))
    for (const answer of answers) {
      expect(answer.outcome).toBe('200')
      expect(answer.body).toEqual(ANSWER)
      expect(Object.keys(answer.headers)).toEqual(Object.keys(answers[0]?.headers ?? {}))
    }
    await service.totp.close()
    expect(service.mails.map(({ to, kind }) => `${kind} ${to}`)).toEqual([
      `recovery_link ${person.email}`,
      `recovery_link ${person.email}`,
    ])
  })

  test('mails to the address that is kept, not to the one that was typed', async () => {
    const service = await startService(front)
    const { person } = await enroll(service)
    await service.post('totp/recovery/', { email: person.email.toUpperCase() })
    await service.mailed(1)
    expect(service.mails[0]?.to).toBe(person.email)
  })

  test('a wrong password is refused, counted, and does not use the link up', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const link = await linkFor(service, enrolled)
    const wrong = await Promise.all(Array.from({ length: 30 }, () => confirm(service, link, 'wrong horse')))
    const judged = wrong.filter(({ outcome }) => outcome === '401 invalid_credentials')
    expect(judged).toHaveLength(5)
    const delayed = await confirm(service, link, enrolled.person.password)
    expect(delayed.outcome).toBe('429 too_many_attempts')
    service.clock.advance(waitIn(delayed).retryAfterSeconds)
    expect((await confirm(service, link, enrolled.person.password)).outcome).toBe('204')
  })

  test('wrong passwords there leave the codes of the app alone', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const link = await linkFor(service, enrolled)
    for (let n = 0; n < 6; n++) await confirm(service, link, 'wrong horse')
    await logInWithPhone(service, enrolled)
  })

  test('a link dies with a change of the factors or the password, and when it expires', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const changes = [
      () => service.totp.credentialsChanged(enrolled.person.id),
      async () => {
        const { access } = await logInWithPhone(service, enrolled)
        enrolled.phone = await beginEnrollment(service, access)
        const input_code = enrolled.phone.codeAt(service.clock.now())
        expect((await service.post('totp/confirm/', { input_code }, access)).outcome).toBe('200')
      },
      async () => service.clock.advance(3601),
    ]
    for (const change of changes) {
      const link = await linkFor(service, enrolled)
      await change()
      const answer = await confirm(service, link, enrolled.person.password)
      expect(answer.outcome).toBe('400 recovery_link_invalid')
      expect((await service.post('totp/recovery_cancel/', link)).outcome).toBe('400 recovery_link_invalid')
    }
  })

  test('a link is for its user, and no other token is one', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const bob = await enroll(service, 'bob')
    const [link, other] = [await linkFor(service, enrolled), await linkFor(service, bob)]
    const { password } = enrolled.person
    const challengeToken = await challenge(service, enrolled.person)
    const otp_code = nextCode(service, enrolled.phone)
    const trusting = { totp_challenge_token: challengeToken, otp_code, trust_device: true }
    const { trusted_device, refresh } = (await service.post('jwt/totp/verify/', trusting)).body
    for (const [uid, token] of [
      [link.uid, other.token],
      [other.uid, link.token],
      [link.uid, challengeToken],
      [link.uid, await challenge(service, enrolled.person)],
      [link.uid, trusted_device],
      [link.uid, refresh],
      [link.uid, `${link.token.slice(0, -2)}AA`],
    ]) {
      expect((await confirm(service, { uid, token }, password)).outcome).toBe('400 recovery_link_invalid')
      expect((await service.post('totp/recovery_cancel/', { uid, token })).outcome).toBe('400 recovery_link_invalid')
    }
    for (const body of [
      { totp_challenge_token: link.token, otp_code: nextCode(service, enrolled.phone) },
      { totp_challenge_token: link.token, backup_code: String(enrolled.backupCodes[0]) },
    ]) {
      expect((await service.post('jwt/totp/verify/', body)).outcome).toBe('400 challenge_invalid')
    }
    expect((await confirm(service, link, password)).outcome).toBe('204')
  })

  test('whoever has the link can stop it, once and for good', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const link = await linkFor(service, enrolled)
    expect((await service.post('totp/recovery_cancel/', link)).outcome).toBe('204')
    expect((await service.post('totp/recovery_cancel/', link)).outcome).toBe('400 recovery_link_invalid')
    expect((await confirm(service, link, enrolled.person.password)).outcome).toBe('400 recovery_link_invalid')
    await logInWithPhone(service, enrolled)
  })

  test('of a confirmation and a cancellation at once exactly one succeeds', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    for (let round = 0; round < 5; round++) {
      const link = await linkFor(service, { person: enrolled.person })
      const [confirmed, canceled] = await Promise.all([
        confirm(service, link, enrolled.person.password),
        service.post('totp/recovery_cancel/', link),
      ])
      expect([confirmed.status, canceled.status].filter((status) => status === 204)).toHaveLength(1)
      const { authenticators } = await service.totp.getStatus(enrolled.person.id)
      expect(authenticators).toHaveLength(confirmed.status === 204 ? 0 : 1)
      if (confirmed.status === 204) break
    }
  })

  test('waits, where the host wants it, so that the owner can stop it', async () => {
    const service = await startService(front, { recovery: { delaySeconds: 86_400, linkValidSeconds: 600 } })
    const enrolled = await enroll(service)
    const link = await linkFor(service, enrolled)
    const early = await confirm(service, link, enrolled.person.password)
    expect(early.outcome).toBe('400 recovery_link_invalid')
    expect(early.headers['retry-after']).toBe('86400')
    expect(early.body.detail).toBe('This link does not work yet.')
    service.clock.advance(86_399)
    expect((await confirm(service, link, enrolled.person.password)).outcome).toBe('400 recovery_link_invalid')
    service.clock.advance(1)
    expect((await confirm(service, link, enrolled.person.password)).outcome).toBe('204')
  })

  test('a user who may not log in any more cannot recover', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const link = await linkFor(service, enrolled)
    service.deactivated.add(enrolled.person.id)
    expect((await confirm(service, link, enrolled.person.password)).outcome).toBe('400 recovery_link_invalid')
  })

  test('says that it is unavailable when the store is, whoever is asked for', async () => {
    const service = await startService(front)
    const { person } = await enroll(service)
    // Burnt tokens may be kept in Redis, and users are not.
    for (const part of ['isTokenUnused', 'getUser'] as const) {
      service.broken.add(part)
      for (const email of [person.email, 'nobody@example.com']) {
        expect((await service.post('totp/recovery/', { email })).outcome).toBe('503 unavailable')
      }
      service.broken.delete(part)
    }
    await service.totp.close()
    expect(service.mails).toEqual([])
  })
})

test("a stranger cannot flood a user's mailbox: five mails an hour", async () => {
  const service = await startService(NODE)
  const { person } = await enroll(service)
  for (let n = 0; n < 9; n++) await service.post('totp/recovery/', { email: person.email })
  await service.totp.close()
  expect(service.mails).toHaveLength(5)
})
