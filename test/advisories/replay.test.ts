import fc from 'fast-check'
import { generateFernetKey } from 'totp-kit'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor } from 'totp-kit/testing'
import { expect, test } from 'vitest'
import { createKeyring } from '../../src/crypto/keyring.ts'
import { sealValue } from '../../src/crypto/sealed-value.ts'
import { limits } from '../../src/testing/store-fixtures.ts'
import {
  challenge,
  type Enrolled,
  enroll,
  logIn,
  logInWith,
  nextCode,
  STEP,
  sessionIn,
  wrongCode,
} from '../http/actors.ts'
import { FETCH, NODE, NOON, type Service, startService } from '../http/harness.ts'

/** The second step of a login, with a challenge of its own. */
async function answer(service: Service, { person }: Pick<Enrolled, 'person'>, otp_code: string) {
  const totp_challenge_token = await challenge(service, person)
  return service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })
}

test('CVE-2015-7225 (devise-two-factor): a code that has logged in does not log in a second time', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const code = nextCode(service, alice.phone)
  expect((await answer(service, alice, code)).outcome).toBe('200')
  expect((await answer(service, alice, code)).outcome).toBe('400 code_already_used')
})

test('CVE-2021-43177 (devise-two-factor): a code that was taken early is spent in its own time step and in the next, and so is every earlier one', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  service.clock.advance(3 * STEP)
  const now = service.clock.now()
  const [before, early] = [alice.phone.codeAt(now), alice.phone.codeAt(now + STEP)]
  expect((await answer(service, alice, early)).outcome, 'by a phone that is 30 s fast').toBe('200')
  expect((await answer(service, alice, before)).outcome).toBe('400 code_already_used')
  service.clock.advance(STEP)
  expect((await answer(service, alice, early)).outcome, 'in its own step').toBe('400 code_already_used')
  for (const steps of [2, 3]) {
    service.clock.advance(STEP)
    // The window follows the phone, which was seen to be fast.
    expect((await answer(service, alice, early)).outcome, `${steps} steps later`).toBe('400 invalid_code')
  }
})

test("CVE-2022-25838 (Laravel Fortify): two users with the same code at once are both let in, and one's reuse is refused", async () => {
  const encryptionKey = generateFernetKey()
  const store = await sqliteStore(':memory:')
  const service = await startService({ ...FETCH, store: async () => store }, { encryptionKey })
  const secret = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'
  const phone = authenticatorFor(`otpauth://totp/Acme:both?secret=${secret}&issuer=Acme`)
  const both = ['alice', 'bob'].map((name) => service.register(name))
  for (const person of both) {
    const { access } = await logIn(service, person)
    const sealedSecret = sealValue(
      createKeyring([encryptionKey]),
      { purpose: 'totp-secret', owner: person.id },
      secret,
      NOON,
    )
    const parameters = { algorithm: 'SHA1', digits: 6, periodSeconds: 30 } as const
    const times = { createdAt: service.clock.now(), expiresAt: service.clock.now() + 900 }
    await store.putPending(
      person.id,
      { id: `phone of ${person.id}`, name: null, sealedSecret, parameters, sessionDigest: null, ...times },
      0,
      limits,
    )
    const confirmed = await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, access)
    expect(confirmed.outcome).toBe('200')
  }
  const code = nextCode(service, phone)
  const first = await Promise.all(both.map((person) => answer(service, { person }, code)))
  expect(first.map(({ outcome }) => outcome)).toEqual(['200', '200'])
  for (const person of both) expect((await answer(service, { person }, code)).outcome).toBe('400 code_already_used')
})

test('CVE-2021-45331, CVE-2026-20779, GHSA-gx3v-q759-g323 (Gitea): of 50 requests at once with one code one is let in, and no other path takes that code', async () => {
  const service = await startService(NODE)
  const alice = await enroll(service)
  const challenges = await Promise.all(Array.from({ length: 50 }, () => challenge(service, alice.person)))
  const code = nextCode(service, alice.phone)
  const answers = await Promise.all(
    challenges.map((totp_challenge_token) =>
      service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: code, trust_device: true }),
    ),
  )
  expect(answers.filter(({ outcome }) => outcome === '200')).toHaveLength(1)

  const { access } = alice.session
  const [authenticator] = (await service.totp.getStatus(alice.person.id)).authenticators
  const [device] = await service.totp.listTrustedDevices(alice.person.id)
  const remove = (path: string) => service.call({ method: 'DELETE', path, json: { input_code: code }, bearer: access })
  const others = [
    () => service.post('totp/verify/', { otp_code: code }, access),
    () => service.post('totp/create/', { input_code: code }, access),
    () => service.post('totp/disable/', { input_code: code }, access),
    () => service.post('totp/rotate_backup_codes/', { input_code: code }, access),
    () => remove(`totp/authenticators/${authenticator?.id}/`),
    () => remove(`totp/trusted_devices/${device?.id}/`),
  ]
  for (const other of others) {
    await service.totp.unlock(alice.person.id)
    expect((await other()).outcome).toBe('400 code_already_used')
  }
  await service.totp.unlock(alice.person.id)
  await expect(service.totp.verifyTotpCode(alice.person.id, code)).rejects.toMatchObject({ code: 'code_already_used' })
})

test('CVE-2025-6015, GHSA-v6r4-35f9-9rpw (HashiCorp Vault): a spent code stays spent in every spelling, and all spellings count in one budget', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { id } = alice.person
  const code = nextCode(service, alice.phone)
  await service.totp.verifyTotpCode(id, code)
  const between = fc.constantFrom('', ' ', '\t', '\n', '-', '–', '\u00a0', '\u200b', '\u2060', '\u3000', '\ufeff')
  const digit = (n: string) =>
    fc.constantFrom(n, String.fromCodePoint(0xff10 + Number(n)), String.fromCodePoint(0x1d7ce + Number(n)))
  const spelling = fc
    .tuple(fc.tuple(...[...code].map(digit)), fc.array(between, { minLength: 7, maxLength: 7 }))
    .map(([digits, marks]) => marks.map((mark, n) => mark + (digits[n] ?? '')).join(''))
  await fc.assert(
    fc.asyncProperty(spelling, async (spelt) => {
      await service.totp.unlock(id)
      await expect(service.totp.verifyTotpCode(id, spelt)).rejects.toMatchObject({ code: 'code_already_used' })
    }),
    { numRuns: 50 },
  )
  await service.totp.unlock(id)
  const spellings = fc.sample(spelling, 6)
  const outcomes: string[] = []
  for (const otp_code of spellings) {
    outcomes.push((await service.post('totp/verify/', { otp_code }, alice.session.access)).outcome)
  }
  expect(outcomes, 'no guess, so it costs none').toEqual(Array(6).fill('400 code_already_used'))
  const wrong = wrongCode(service, alice.phone)
  const guesses: string[] = []
  for (const spelt of [wrong, ` ${wrong}`, `${wrong} `, wrong.split('').join(' '), wrong.split('').join('-'), wrong]) {
    guesses.push((await service.post('totp/verify/', { otp_code: spelt }, alice.session.access)).outcome)
  }
  expect(guesses).toEqual([...Array(5).fill('400 invalid_code'), '429 too_many_attempts'])
})

test('CVE-2025-69197 (Pterodactyl), CVE-2025-43798 (Liferay), CVE-2026-27855 (Dovecot Pro): a code that was used in one session is worth nothing in another and to no challenge, while it is on the screen and after', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const other = sessionIn((await answer(service, alice, nextCode(service, alice.phone))).body)
  const otp_code = nextCode(service, alice.phone)
  expect((await service.post('totp/verify/', { otp_code }, alice.session.access)).outcome).toBe('200')
  for (const seconds of [0, 29, 30]) {
    service.clock.advance(seconds)
    expect((await service.post('totp/verify/', { otp_code }, other.access)).outcome).toBe('400 code_already_used')
    await service.totp.unlock(alice.person.id)
    expect((await answer(service, alice, otp_code)).outcome).toBe('400 code_already_used')
  }
  service.clock.advance(STEP)
  expect((await answer(service, alice, otp_code)).outcome).toBe('400 invalid_code')
})

test('teamhanko/hanko #2723: the code that confirmed an enrollment does not log in', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  expect((await answer(service, alice, alice.confirmingCode)).outcome).toBe('400 code_already_used')
  await logInWith(service, alice.person, { otp_code: nextCode(service, alice.phone) })
})

test('better-auth/better-auth #10387, zitadel/zitadel #6452: of 20 challenges answered with one code one becomes a session, and with the confirming code none', async () => {
  const service = await startService(NODE)
  const alice = await enroll(service)
  const race = async (otp_code: string) => {
    const challenges = await Promise.all(Array.from({ length: 20 }, () => challenge(service, alice.person)))
    const answers = await Promise.all(
      challenges.map((totp_challenge_token) => service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })),
    )
    await service.totp.unlock(alice.person.id)
    return answers.filter(({ body }) => 'access' in body).length
  }
  expect(await race(alice.confirmingCode)).toBe(0)
  const code = nextCode(service, alice.phone)
  expect(await race(code)).toBe(1)
  expect(await race(code)).toBe(0)
})
