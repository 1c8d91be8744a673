import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  challenge,
  enroll,
  logIn,
  logInWith,
  logInWithPhone,
  nextCode,
  STEP,
  wrongCode,
} from './actors.ts'
import { FETCH, frameworks, NOON, startService } from './harness.ts'

const MINUTE = 60

describe.each(frameworks)('$name: an enrollment', (front) => {
  test('begins with a picture, the key URI in it, and the secret for typing in', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const answer = await service.post('totp/create/', undefined, access)
    expect(answer.status).toBe(201)
    expect(Object.keys(answer.body)).toEqual([
      'svg',
      'uri',
      'secret',
      'expires_in',
      'digits',
      'period',
      'algorithm',
      'issuer',
      'account_name',
      'replaces',
    ])
    const { svg, uri, secret } = answer.body
    expect(svg).toMatch(/^<svg [\s\S]*<\/svg>$/)
    expect(secret).toMatch(/^[A-Z2-7]{32}$/)
    const { searchParams, pathname } = new URL(String(uri))
    expect(decodeURIComponent(pathname)).toBe('/Acme:alice@example.com')
    expect(searchParams.get('secret')).toBe(secret)
    expect(searchParams.get('issuer')).toBe('Acme')
  })

  test('switches nothing on until its first code: then it hands out ten backup codes', async () => {
    const service = await startService(front)
    const person = service.register('alice')
    const { access } = await logIn(service, person)
    const off = {
      policy: expect.any(Object),
      pending: null as { expires_in: number } | null,
      backup_codes_saved_at: null,
      is_totp_enabled: false,
      confirmed_at: null,
      backup_codes_remaining: 0,
      authenticators: [],
      trusted_devices: 0,
      locked_until: null,
    }
    expect((await service.get('totp/status/', access)).body).toEqual(off)

    const phone = await beginEnrollment(service, access, { name: 'My phone' })
    off.pending = { expires_in: 15 * MINUTE }
    expect((await service.get('totp/status/', access)).body).toEqual(off)
    expect((await service.post('jwt/create/', person)).body).toMatchObject({ is_totp_enabled: false })
    expect(await service.totp.isTotpEnabled(person.id)).toBe(false)

    service.clock.advance(MINUTE)
    const input_code = phone.codeAt(service.clock.now())
    const { status, body } = await service.post('totp/confirm/', { input_code }, access)
    expect(status).toBe(200)
    expect(Object.keys(body).sort()).toEqual(['access', 'backup_codes', 'refresh'])
    const codes = body.backup_codes as string[]
    expect(new Set(codes).size).toBe(10)
    for (const code of codes) expect(code).toMatch(/^([0-9A-Z]{4}-){3}[0-9A-Z]{4}$/)

    expect((await service.get('totp/status/', access)).body).toEqual({
      policy: expect.any(Object),
      pending: null,
      backup_codes_saved_at: null,
      is_totp_enabled: true,
      confirmed_at: isoTime(NOON + MINUTE),
      backup_codes_remaining: 10,
      authenticators: [
        {
          id: expect.stringMatching(/^[\w-]{22}$/),
          name: 'My phone',
          created_at: isoTime(NOON),
          last_used_at: isoTime(NOON + MINUTE),
        },
      ],
      trusted_devices: 0,
      locked_until: null,
    })
    expect(await service.totp.isTotpEnabled(person.id)).toBe(true)
  })

  test('the status tells when an authenticator was last used, and of each user their own', async () => {
    const service = await startService(front)
    const alice = await enroll(service)
    const bob = await logIn(service, service.register('bob'))
    const { access } = await logInWithPhone(service, alice)
    const { body } = await service.get('totp/status/', access)
    expect(body.authenticators).toMatchObject([
      { name: null, created_at: isoTime(NOON), last_used_at: isoTime(NOON + STEP) },
    ])
    expect((await service.get('totp/status/', bob.access)).body).toMatchObject({ is_totp_enabled: false })
  })

  test('begun a second time replaces the pending secret', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const first = await beginEnrollment(service, access)
    const second = await beginEnrollment(service, access)
    const wrong = await service.post('totp/confirm/', { input_code: first.codeAt(NOON) }, access)
    expect(wrong.outcome).toBe('400 invalid_code')
    const right = await service.post('totp/confirm/', { input_code: second.codeAt(NOON) }, access)
    expect(right.outcome).toBe('200')
  })

  test('is confirmed once: then 2FA is on already, and before there was nothing to confirm', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const early = await service.post('totp/confirm/', { input_code: '123456' }, access)
    expect(early.outcome).toBe('400 totp_not_set_up')
    const phone = await beginEnrollment(service, access)
    const wrong = await service.post('totp/confirm/', { input_code: wrongCode(service, phone) }, access)
    expect(wrong.outcome).toBe('400 invalid_code')
    const input_code = phone.codeAt(NOON)
    expect((await service.post('totp/confirm/', { input_code }, access)).outcome).toBe('200')
    for (const code of [input_code, nextCode(service, phone)]) {
      const again = await service.post('totp/confirm/', { input_code: code }, access)
      expect(again.outcome).toBe('400 totp_already_enabled')
    }
  })

  test('confirmed by two requests at once is confirmed by one of them', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const phone = await beginEnrollment(service, access)
    const confirm = () => service.post('totp/confirm/', { input_code: phone.codeAt(NOON) }, access)
    const outcomes = (await Promise.all([confirm(), confirm(), confirm()])).map(({ outcome }) => outcome)
    expect(outcomes.sort()).toEqual(['200', '400 totp_already_enabled', '400 totp_already_enabled'])
  })

  test('may be confirmed for 15 minutes', async () => {
    for (const [seconds, outcome] of [
      [15 * MINUTE - 1, '200'],
      [15 * MINUTE, '400 totp_not_set_up'],
    ] as const) {
      const service = await startService(front, { tokens: { accessTokenSeconds: 3600 } })
      const { access } = await logIn(service, service.register('alice'))
      const phone = await beginEnrollment(service, access)
      service.clock.advance(seconds)
      const input_code = phone.codeAt(service.clock.now())
      expect((await service.post('totp/confirm/', { input_code }, access)).outcome).toBe(outcome)
      expect((await service.post('totp/rotate_backup_codes/', {}, access)).outcome).toBe(
        seconds < 15 * MINUTE ? '401 step_up_required' : '400 totp_not_set_up',
      )
    }
  })

  test('the confirming code counts as used', async () => {
    const service = await startService(front)
    const { person, phone, session, confirmingCode } = await enroll(service)
    const totp_challenge_token = await challenge(service, person)
    const login = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: confirmingCode })
    expect(login.outcome).toBe('400 code_already_used')
    const stepUp = await service.post('totp/verify/', { otp_code: confirmingCode }, session.access)
    expect(stepUp.outcome).toBe('400 code_already_used')
    const disable = await service.post('totp/disable/', { input_code: confirmingCode }, session.access)
    expect(disable.outcome).toBe('400 code_already_used')
    // The code of the step before is older than one that was used.
    const earlier = await service.post('totp/verify/', { otp_code: phone.codeAt(NOON - STEP) }, session.access)
    expect(earlier.outcome).toBe('400 code_already_used')
  })

  test('a phone that is one step off is forgiven, two are not', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const phone = await beginEnrollment(service, access)
    for (const [at, outcome] of [
      [NOON - 2 * STEP, '400 invalid_code'],
      [NOON + 2 * STEP, '400 invalid_code'],
      [NOON - STEP, '200'],
    ] as const) {
      const answer = await service.post('totp/confirm/', { input_code: phone.codeAt(at) }, access)
      expect(answer.outcome).toBe(outcome)
    }
  })

  test('that was never confirmed is dropped without a code', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('400 totp_not_set_up')
    const phone = await beginEnrollment(service, access)
    expect((await service.post('totp/rotate_backup_codes/', undefined, access)).outcome).toBe('400 totp_not_enabled')
    expect((await service.get('totp/backup_codes/', access)).outcome).toBe('400 totp_not_enabled')
    const verify = await service.post('totp/verify/', { otp_code: phone.codeAt(NOON) }, access)
    expect(verify.outcome).toBe('400 totp_not_enabled')

    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('204')

    const late = await service.post('totp/confirm/', { input_code: phone.codeAt(NOON) }, access)
    expect(late.outcome).toBe('400 totp_not_set_up')
    expect((await service.post('totp/rotate_backup_codes/', undefined, access)).outcome).toBe('400 totp_not_set_up')
    expect((await service.get('totp/backup_codes/', access)).outcome).toBe('400 totp_not_set_up')
    expect((await service.post('totp/verify/', { otp_code: '123456' }, access)).outcome).toBe('400 totp_not_set_up')
  })
})

describe.each(frameworks)('$name: switching off', (front) => {
  test('takes authenticators and backup codes away, and a password is enough again', async () => {
    const service = await startService(front)
    const { person, phone, session, backupCodes } = await enroll(service)
    const input_code = nextCode(service, phone)
    const answer = await service.post('totp/disable/', { input_code }, session.access)
    expect([answer.status, answer.text]).toEqual([204, ''])
    expect((await service.get('totp/status/', session.access)).body).toMatchObject({
      is_totp_enabled: false,
      confirmed_at: null,
      backup_codes_remaining: 0,
      authenticators: [],
    })
    const { access } = await logIn(service, person)
    expect((await service.post('totp/disable/', undefined, access)).outcome).toBe('400 totp_not_set_up')

    const next = await beginEnrollment(service, access)
    const confirmed = await service.post('totp/confirm/', { input_code: next.codeAt(service.clock.now()) }, access)
    expect(confirmed.body.backup_codes).not.toEqual(backupCodes)
    const old = await service.post('totp/verify/', { otp_code: nextCode(service, phone) }, access)
    expect(old.outcome).toBe('400 invalid_code')
    const oldBackup = await service.post('totp/verify/', { backup_code: backupCodes[0] }, access)
    expect(oldBackup.outcome).toBe('400 invalid_code')
  })

  test('drops an enrollment that was still pending as well', async () => {
    const service = await startService(front)
    const { phone, session } = await enroll(service)
    const input_code = nextCode(service, phone)
    const pending = await beginEnrollment(service, session.access, { input_code })
    await service.post('totp/disable/', { input_code: nextCode(service, phone) }, session.access)
    const late = await service.post(
      'totp/confirm/',
      { input_code: pending.codeAt(service.clock.now()) },
      session.access,
    )
    expect(late.outcome).toBe('400 totp_not_set_up')
  })
})

describe.each(frameworks)('$name: a new phone', (front) => {
  test('takes the place of the old one when its first code is right, not before; the backup codes stay', async () => {
    const service = await startService(front)
    const { person, phone: old, session, backupCodes } = await enroll(service)
    const before = await service.get('totp/status/', session.access)
    const phone = await beginEnrollment(service, session.access, { input_code: nextCode(service, old), name: 'New' })

    const wrong = await service.post('totp/confirm/', { input_code: wrongCode(service, phone) }, session.access)
    expect(wrong.outcome).toBe('400 invalid_code')
    const early = await service.post('totp/verify/', { otp_code: phone.codeAt(service.clock.now()) }, session.access)
    expect(early.outcome).toBe('400 invalid_code')
    await logInWithPhone(service, { person, phone: old })

    const input_code = nextCode(service, phone)
    const { outcome, body } = await service.post('totp/confirm/', { input_code }, session.access)
    expect([outcome, body]).toEqual([
      '200',
      { backup_codes: null, access: expect.any(String), refresh: expect.any(String) },
    ])

    const totp_challenge_token = await challenge(service, person)
    const byOld = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: nextCode(service, old) })
    expect(byOld.outcome).toBe('400 invalid_code')
    const { access } = await logInWithPhone(service, { person, phone })
    await logInWith(service, person, { backup_code: String(backupCodes[0]) })
    const after = await service.get('totp/status/', access)
    expect(after.body).toMatchObject({ backup_codes_remaining: 9, confirmed_at: before.body.confirmed_at })
    expect(after.body.authenticators).toMatchObject([{ name: 'New' }])
  })

  test('an enrollment that was begun before the password changed cannot be confirmed after it', async () => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    const thief = await logInWithPhone(service, enrolled)
    const phone = await beginEnrollment(service, thief.access)
    service.clock.advance(60)
    await service.totp.credentialsChanged(enrolled.person.id)

    const input_code = nextCode(service, phone)
    const answer = await service.post('totp/confirm/', { input_code }, thief.access)

    expect(answer.outcome).toBe('400 totp_already_enabled')
    await logInWithPhone(service, enrolled)
  })

  test('that is never confirmed leaves the old one on', async () => {
    const service = await startService(front, { tokens: { accessTokenSeconds: 3600 } })
    const { person, phone: old, session } = await enroll(service)
    const phone = await beginEnrollment(service, session.access, { input_code: nextCode(service, old) })
    service.clock.advance(15 * MINUTE)
    const input_code = phone.codeAt(service.clock.now())
    const late = await service.post('totp/confirm/', { input_code }, session.access)
    expect(late.outcome).toBe('400 totp_already_enabled')
    await logInWithPhone(service, { person, phone: old })
  })
})

describe('the account name', () => {
  test('that cannot stand in a key URI is a refusal, not a failure', async () => {
    for (const accountName of ['a:b@example.com', 'x'.repeat(2000)]) {
      const service = await startService(FETCH, { accountName })
      const { access } = await logIn(service, service.register('alice'))
      const answer = await service.post('totp/create/', undefined, access)
      expect(answer.outcome).toBe('400 validation_failed')
      expect(answer.body.errors).toEqual({ account_name: [expect.any(String)] })
    }
  })
})

function isoTime(at: number): string {
  return new Date(at * 1000).toISOString().replace('.000Z', 'Z')
}
