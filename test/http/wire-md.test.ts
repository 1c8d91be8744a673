import type { TotpStore } from 'totp-kit'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor } from 'totp-kit/testing'
import { describe, expect, onTestFinished, test } from 'vitest'
import { mysqlPool, postgresPool, services } from '../services.ts'
import {
  beginEnrollment,
  challenge,
  enroll,
  linkIn,
  logIn,
  logInWithPhone,
  nextCode,
  STEP,
  wrongCode,
} from './actors.ts'
import { FETCH, type Front, type Service, type ServiceOptions, startService } from './harness.ts'

/** What each endpoint answers, row by row, on each kind of database. */

const text = expect.any(String)
const whole = expect.toSatisfy((value: unknown) => Number.isInteger(value), 'is a whole number')
const isoTime = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)

/** At least these members, of these kinds. */
function holds(body: unknown, members: Record<string, unknown>): void {
  expect(body).toEqual(expect.objectContaining(members))
}

const databases: { name: string; isThere: boolean; store: () => Promise<TotpStore> }[] = [
  { name: 'SQLite', isThere: true, store: () => sqliteStore(':memory:') },
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async store() {
      const { pool, drop } = await postgresPool(4)
      onTestFinished(() => drop())
      const store = postgresStore(pool)
      await store.migrate()
      return store
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async store() {
      const { pool, drop } = await mysqlPool(4)
      onTestFinished(() => drop())
      const store = mysqlStore(pool)
      await store.migrate()
      return store
    },
  },
]

for (const { name, isThere, store } of databases) {
  describe.skipIf(!isThere)(`on ${name}`, () => {
    const front: Front = { ...FETCH, store }
    const start = (options: ServiceOptions = {}) => startService(front, options)

    test('totp/create: what the app needs, for how long, and what confirming will replace', async () => {
      const service = await start()
      const { person, phone, session } = await enroll(service)
      const { access } = await logIn(service, service.register('bob'))
      const { status, body } = await service.post('totp/create/', { name: 'Phone' }, access)
      expect(status).toBe(201)
      const setup = {
        svg: expect.stringMatching(/^<svg /),
        uri: expect.stringMatching(/^otpauth:\/\/totp\//),
        secret: text,
        expires_in: 900,
        digits: 6,
        period: 30,
        algorithm: 'SHA1',
        issuer: 'Acme',
        account_name: 'bob@example.com',
        replaces: null,
      }
      holds(body, setup)

      const input_code = nextCode(service, phone)
      const again = await service.post('totp/create/', { input_code }, session.access)
      const { authenticators } = await service.totp.getStatus(person.id)
      holds(again.body, { ...setup, account_name: person.email, replaces: { id: authenticators[0]?.id, name: null } })
    })

    test('totp/create with resume: the same session gets its own again, with secret and deadline; another never', async () => {
      const service = await start()
      const person = service.register('alice')
      const [session, other] = [await logIn(service, person), await logIn(service, person)]
      const create = async (bearer: string, resume: boolean) =>
        (await service.post('totp/create/', { resume, name: 'Phone' }, bearer)).body
      const begun = await create(session.access, true)
      service.clock.advance(100)
      const { svg, uri, secret } = begun
      const resumed = await create(session.access, true)
      holds(resumed, { svg, uri, secret, expires_in: 800 })

      const fromOther = await create(other.access, true)
      expect(fromOther.secret).not.toBe(secret)
      const afterwards = await create(session.access, true)
      expect([secret, fromOther.secret]).not.toContain(afterwards.secret)
      expect((await create(session.access, false)).secret).not.toBe(afterwards.secret)

      const last = await create(session.access, true)
      service.clock.advance(900)
      expect((await create((await logIn(service, person)).access, true)).secret).not.toBe(last.secret)
    })

    test('totp/create with resume: an enrollment token is a session too', async () => {
      const service = await start({ enforcement: { required: () => true, accountName: ({ email }) => email } })
      const { username, password } = service.register('alice')
      const tokenOf = async () =>
        String((await service.post('jwt/create/', { username, password })).body.enrollment_token)
      const [token, other] = [await tokenOf(), await tokenOf()]
      const secretFor = async (bearer: string) =>
        (await service.post('totp/create/', { resume: true }, bearer)).body.secret
      const secret = await secretFor(token)
      expect(await secretFor(token)).toBe(secret)
      expect(await secretFor(other)).not.toBe(secret)
    })

    test('totp/status tells everything that a client would have to guess', async () => {
      const service = await start({ maxAuthenticators: 2, trustedDevices: { days: 14 } })
      const person = service.register('alice')
      const { access } = await logIn(service, person)
      await beginEnrollment(service, access)
      service.clock.advance(60)
      const policy = {
        max_authenticators: 2,
        digits: 6,
        period: 30,
        step_up_seconds: 300,
        trusted_device_days: 14,
        backup_codes_total: 10,
        backup_codes_viewable: true,
      }
      const before = {
        is_totp_enabled: false,
        confirmed_at: null,
        backup_codes_remaining: 0,
        backup_codes_saved_at: null,
      }
      holds((await service.get('totp/status/', access)).body, {
        ...before,
        authenticators: [],
        pending: { expires_in: 840 },
        trusted_devices: 0,
        locked_until: null,
        policy,
      })

      const { session } = await enroll(service, 'bob')
      holds((await service.get('totp/status/', session.access)).body, {
        is_totp_enabled: true,
        confirmed_at: isoTime,
        backup_codes_remaining: 10,
        backup_codes_saved_at: null,
        authenticators: [{ id: text, name: null, created_at: isoTime, last_used_at: isoTime }],
        pending: null,
        trusted_devices: 0,
        locked_until: null,
        policy,
      })
    })

    test('totp/backup_codes_saved: status tells it, until there are other codes', async () => {
      const service = await start()
      const { phone, session } = await enroll(service)
      const savedAt = async () => (await service.get('totp/status/', session.access)).body.backup_codes_saved_at
      const saved = () => service.post('totp/backup_codes_saved/', undefined, session.access)
      expect((await saved()).status).toBe(204)
      expect(await savedAt()).toEqual(isoTime)
      const rotated = await service.post(
        'totp/rotate_backup_codes/',
        { input_code: nextCode(service, phone) },
        session.access,
      )
      holds(rotated.body, { backup_codes: Array(10).fill(text) })
      expect(await savedAt()).toBeNull()

      const { access } = await logIn(service, service.register('bob'))
      const without = await service.post('totp/backup_codes_saved/', undefined, access)
      expect(without.outcome).toBe('400 totp_not_set_up')
    })

    test('totp/authenticators: PATCH gives a name, and answers with the authenticator', async () => {
      const service = await start()
      const { person, session } = await enroll(service)
      const [phone] = (await service.totp.getStatus(person.id)).authenticators
      const rename = (id: unknown, name: unknown) =>
        service.call({
          method: 'PATCH',
          path: `totp/authenticators/${id}/`,
          json: { name },
          bearer: session.access,
        })
      const { status, body } = await rename(phone?.id, ' My phone ')
      expect(status).toBe(200)
      holds(body, { id: phone?.id, name: 'My phone', created_at: isoTime, last_used_at: isoTime })
      expect((await service.totp.getStatus(person.id)).authenticators[0]?.name).toBe('My phone')
      expect((await rename('no-such-id', 'Mine')).outcome).toBe('404 not_found')
      expect((await rename(phone?.id, ' ')).outcome).toBe('400 validation_failed')
    })

    test('totp/trusted_devices: a list that marks this device, and one call that ends all', async () => {
      const service = await start({ trustedDevices: { days: 30, cookie: 'device' } })
      const enrolled = await enroll(service)
      const trust = async () => {
        const otp_code = nextCode(service, enrolled.phone)
        const totp_challenge_token = await challenge(service, enrolled.person)
        const json = { totp_challenge_token, otp_code, trust_device: true, device_name: 'Laptop' }
        const { headers, body } = await service.call({ path: 'jwt/totp/verify/', json })
        return { cookie: String(headers['set-cookie']).split(';')[0] ?? '', access: String(body.access) }
      }
      const [first, second] = [await trust(), await trust()]
      const listed = async (cookie?: string) => {
        const headers = cookie === undefined ? {} : { cookie }
        const call = { method: 'GET', path: 'totp/trusted_devices/', bearer: second.access, headers }
        return (await service.call(call)).body.trusted_devices as { is_current: boolean }[]
      }
      const devices = await listed(first.cookie)
      const device = { id: text, name: 'Laptop', created_at: isoTime, last_used_at: isoTime, expires_at: isoTime }
      for (const one of devices) holds(one, device)
      expect(devices.map(({ is_current }) => is_current)).toEqual([false, true])
      expect((await listed()).map(({ is_current }) => is_current)).toEqual([false, false])

      const end = { method: 'DELETE', path: 'totp/trusted_devices/', bearer: second.access }
      const stale = await service.call({ ...end, bearer: enrolled.session.access })
      expect(stale.outcome).toBe('401 step_up_required')
      const json = { input_code: nextCode(service, enrolled.phone) }
      expect((await service.call({ ...end, json })).status).toBe(204)
      expect(await listed(first.cookie)).toEqual([])
    })

    test('jwt/create: a token pair, a challenge, or an enrollment, each with what the next screen needs', async () => {
      const service = await start({
        enforcement: { required: ({ username }) => username === 'eve', accountName: ({ email }) => email },
      })
      const create = async ({ username, password }: { username: string; password: string }) =>
        (await service.post('jwt/create/', { username, password })).body
      holds(await create(service.register('bob')), { is_totp_enabled: false, access: text, refresh: text })
      holds(await create((await enroll(service)).person), {
        is_totp_enabled: true,
        totp_challenge_token: text,
        expires_in: 120,
        methods: ['totp', 'backup_code'],
        digits: 6,
        trusted_device_days: 30,
      })
      holds(await create(service.register('eve')), {
        is_totp_enabled: false,
        must_enroll: true,
        enrollment_token: text,
        expires_in: 900,
      })
    })

    test('jwt/totp/verify: a challenge survives the delay that wrong codes cause, for 30 minutes after the password', async () => {
      const service = await start()
      const { person, phone } = await enroll(service)
      const begun = service.clock.now()
      const first = await challenge(service, person)
      const answer = (totp_challenge_token: string, otp_code: string) =>
        service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })
      let token = first
      for (let n = 0; n < 5; n++) await answer(token, wrongCode(service, phone))
      for (const seconds of [30, 60, 120, 240]) {
        const early = await answer(token, phone.codeAt(service.clock.now()))
        expect(early.outcome).toBe('429 too_many_attempts')
        holds(early.body, { retry_after_seconds: seconds, totp_challenge_token: text })
        token = String(early.body.totp_challenge_token)
        service.clock.advance(seconds + 59)
        const wrong = await answer(token, wrongCode(service, phone))
        holds(wrong.body, { code: 'invalid_code', attempts_left: 0, totp_challenge_token: text })
        token = String(wrong.body.totp_challenge_token)
      }
      const waiting = await answer(token, phone.codeAt(service.clock.now()))
      service.clock.advance(Number(waiting.body.retry_after_seconds))
      const renewed = String(waiting.body.totp_challenge_token)
      expect((await answer(first, phone.codeAt(service.clock.now()))).outcome).toBe('400 challenge_invalid')
      const done = await answer(renewed, phone.codeAt(service.clock.now()))
      holds(done.body, { access: text, refresh: text })
      expect(service.clock.now() - begun).toBeLessThan(1800)
      service.clock.advance(STEP)
      const reused = await answer(renewed, phone.codeAt(service.clock.now()))
      expect(reused.outcome, 'one success burns every token of the challenge').toBe('400 challenge_invalid')
    })

    test('jwt/totp/verify: where the wait goes beyond 30 minutes after the password there is no renewed token', async () => {
      const service = await start({ failures: { firstDelaySeconds: 1800, maxDelaySeconds: 1800 } })
      const { person, phone } = await enroll(service)
      const token = await challenge(service, person)
      const answer = () =>
        service.post('jwt/totp/verify/', { totp_challenge_token: token, otp_code: wrongCode(service, phone) })
      for (let n = 0; n < 5; n++) await answer()
      const refused = await answer()
      expect(refused.outcome).toBe('429 too_many_attempts')
      expect(refused.body).not.toHaveProperty('totp_challenge_token')
    })

    test('totp/verify, totp/confirm, totp/disable, totp/backup_codes', async () => {
      const service = await start()
      const { access } = await logIn(service, service.register('alice'))
      const phone = authenticatorFor(String((await service.post('totp/create/', undefined, access)).body.uri))
      const confirmed = await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, access)
      holds(confirmed.body, { backup_codes: Array(10).fill(text), access: text, refresh: text })
      const otp_code = nextCode(service, phone)
      const verified = await service.post('totp/verify/', { otp_code }, String(confirmed.body.access))
      holds(verified.body, { verified_at: isoTime, amr: ['pwd', 'otp', 'mfa'], access: text, refresh: text })
      const raised = String(verified.body.access)
      const codes = await service.get('totp/backup_codes/', raised)
      holds(codes.body, { backup_codes: Array(10).fill({ code: text, used_at: null }) })
      expect((await service.post('totp/disable/', undefined, raised)).status).toBe(204)
    })

    test('jwt/refresh, jwt/verify, jwt/logout', async () => {
      const service = await start()
      const session = await logInWithPhone(service, await enroll(service))
      const { body } = await service.post('jwt/refresh/', { refresh: session.refresh })
      holds(body, { access: text, refresh: text })
      const checked = await service.post('jwt/verify/', { token: body.access })
      expect([checked.status, checked.body]).toEqual([200, {}])
      expect((await service.post('jwt/logout/', { refresh: body.refresh })).status).toBe(204)
    })

    test('totp/recovery: the link says from when until when it works, in Unix seconds', async () => {
      const service = await start({ recovery: { delaySeconds: 600, linkValidSeconds: 1200 } })
      const { person } = await enroll(service)
      const { body } = await service.post('totp/recovery/', { email: person.email })
      const details = 'If an account with that email exists and has TOTP enabled, a recovery email has been sent.'
      holds(body, { details })
      await service.mailed(1)
      const [mail] = service.mails
      const said = new URLSearchParams(new URL(String(mail && 'url' in mail && mail.url)).hash.slice(1))
      const [from, until] = [Number(said.get('from')), Number(said.get('until'))]
      expect([from, until]).toEqual([service.clock.now() + 600, service.clock.now() + 1800])
      const { password } = person
      const confirm = (password: string) =>
        service.post('totp/recovery_confirm/', { ...linkIn(service.mails[0] as never), password })
      const early = await confirm(password)
      holds(early.body, { code: 'recovery_link_invalid', retry_after_seconds: 600 })
      service.clock.advance(600)
      holds((await confirm('wrong horse')).body, { code: 'invalid_credentials', attempts_left: whole })
      expect((await confirm(password)).status).toBe(204)
    })
  })
}

/** Not about a store. */
test('what is refused for now tells in the body what Retry-After tells', async () => {
  const service: Service = await startService(FETCH, { rateLimit: '1/minute' })
  const ask = () => service.post('totp/recovery/', { email: 'nobody@example.com' })
  await ask()
  const throttled = await ask()
  holds(throttled.body, { code: 'throttled', retry_after_seconds: Number(throttled.headers['retry-after']) })
  service.broken.add('getUser')
  const unavailable = await startService(FETCH)
  unavailable.broken.add('getUser')
  const answer = await unavailable.post('totp/recovery/', { email: 'nobody@example.com' })
  holds(answer.body, { code: 'unavailable', retry_after_seconds: Number(answer.headers['retry-after']) })
})
