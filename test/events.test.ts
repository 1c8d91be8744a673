import { generateFernetKey, type TotpEvent } from 'totp-kit'
import type { Notification } from 'totp-kit/mail'
import { memoryStore } from 'totp-kit/store/memory'
import { expect, test } from 'vitest'
import { TOTP_EVENTS } from '../src/events.ts'
import { contextOf } from '../src/flows/context.ts'
import {
  beginEnrollment,
  challenge,
  claimsIn,
  enroll,
  linkIn,
  logIn,
  logInWithPhone,
  nextCode,
  wrongCode,
} from './http/actors.ts'
import { exerciseAll } from './http/exercise-all.ts'
import { FETCH, type Service, startService } from './http/harness.ts'

function listen(service: Service): TotpEvent[] {
  const heard: TotpEvent[] = []
  service.totp.on('*', (event) => void heard.push(event), { awaited: true })
  return heard
}

/** Compiles only while the list names every kind of event. */
const LISTED: Record<TotpEvent['type'], string> = Object.fromEntries(TOTP_EVENTS.map((type) => [type, type])) as Record<
  (typeof TOTP_EVENTS)[number],
  string
>

test('the list of events names each once, and a kind that is not in it has no listeners', async () => {
  const { totp } = await startService(FETCH)

  expect(Object.keys(LISTED)).toHaveLength(TOTP_EVENTS.length)
  for (const type of [...TOTP_EVENTS, '*'] as const) totp.on(type, () => undefined)
  for (const type of ['totp.confirm', '', 'toString'] as never[]) {
    expect(() => totp.on(type, () => undefined)).toThrow(TypeError)
  }
})

const typesOf = (heard: readonly TotpEvent[]) => heard.map(({ type }) => type)

test('every change, success and refusal is announced, each kind at least once', async () => {
  const service = await startService(FETCH, {
    maxAuthenticators: 2,
    enforcement: {
      required: ({ username }) => username === 'must',
      accountName: ({ email }) => email,
    },
  })
  const heard = listen(service)
  await exerciseAll(service)
  const must = service.register('must')
  await service.post('jwt/create/', { username: must.username, password: must.password })
  const carol = await enroll(service, 'carol')
  const { username, password } = carol.person
  const totp_challenge_token = await challenge(service, carol.person)
  const trusting = { totp_challenge_token, otp_code: nextCode(service, carol.phone), trust_device: true }
  const { trusted_device } = (await service.post('jwt/totp/verify/', trusting)).body
  for (let times = 0; times < 2; times++) await service.post('jwt/create/', { username, password, trusted_device })
  service.clock.advance(600)
  for (const steps of [-4, -3]) {
    const otp_code = carol.phone.codeAt(service.clock.now() + steps * 30)
    const totp_challenge_token = await challenge(service, carol.person)
    await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })
  }
  for (let failures = 0; failures < 100; failures++) {
    service.clock.advance(901)
    const otp_code = wrongCode(service, carol.phone)
    await service.totp.verifyTotpCode(carol.person.id, otp_code).catch(() => undefined)
  }
  await service.totp.unlock(carol.person.id)
  await service.totp.credentialsChanged(carol.person.id)
  await service.totp.forgetUser(carol.person.id)
  await service.totp.importAuthenticator('dave', { secret: 'JBSWY3DPEHPK3PXP' })

  const never = TOTP_EVENTS.filter((type) => !typesOf(heard).includes(type))
  // These two need a database that was tampered with and a mail server that is gone: test/faults and test/mail.
  expect(never).toEqual(['secret.unreadable', 'mail.failed'])
})

test('wherever the generation rises the end of the sessions is announced, once, before what changed, with the one that stays', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const heard = listen(service)
  const alice = await enroll(service)
  const { id } = alice.person
  const added = await logInWithPhone(service, alice)
  const spare = await beginEnrollment(service, added.access)
  const sid = ({ access }: { access: string }) => claimsIn(access).sid
  await service.post('totp/confirm/', { input_code: nextCode(service, spare) }, added.access)
  const removing = await logInWithPhone(service, alice)
  const { authenticators } = (await service.get('totp/status/', removing.access)).body as { authenticators: Row[] }
  interface Row {
    id: string
  }
  const path = `totp/authenticators/${authenticators[1]?.id}/`
  await service.call({ method: 'DELETE', path, bearer: removing.access })
  const { generation } = await contextOf(service.totp).store.getUser(id)
  await service.totp.credentialsChanged(id)
  await service.post('totp/recovery/', { email: alice.person.email })
  await service.mailed(1)
  await service.post('totp/recovery_cancel/', linkIn(service.mails[0] as Notification))
  await service.post('totp/recovery/', { email: alice.person.email })
  await service.mailed(2)
  const { password } = alice.person
  await service.post('totp/recovery_confirm/', { ...linkIn(service.mails[1] as Notification), password })
  const again = await logIn(service, alice.person)
  const phone = await beginEnrollment(service, again.access)
  await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, again.access)
  const last = await logInWithPhone(service, { ...alice, phone })
  await service.post('totp/disable/', undefined, last.access)

  const ends = heard.flatMap((event, n) =>
    event.type === 'sessions.ended' ? [[event.keptSessionId, heard[n + 1]?.type]] : [],
  )
  expect(ends).toEqual([
    [sid(alice.session), 'totp.confirmed'],
    [sid(added), 'totp.confirmed'],
    [sid(removing), 'authenticator.removed'],
    [null, 'credentials.changed'],
    [null, 'recovery.canceled'],
    [null, 'recovery.confirmed'],
    [sid(again), 'totp.confirmed'],
    [sid(last), 'totp.disabled'],
  ])
  expect(generation).toBe(3)
  expect((await contextOf(service.totp).store.getUser(id)).generation, 'as often as it rose').toBe(ends.length)
})

test('a new name and saved backup codes are announced, the name is not', async () => {
  const service = await startService(FETCH)
  const { person, raised } = await enroll(service)
  const [authenticator] = (await service.totp.getStatus(person.id)).authenticators
  const heard = listen(service)
  const path = `totp/authenticators/${authenticator?.id}/`
  await service.call({ method: 'PATCH', path, json: { name: 'Old phone' }, bearer: raised.access })
  await service.post('totp/backup_codes_saved/', undefined, raised.access)

  const common = { userId: person.id, at: service.clock.now() }
  expect(heard).toEqual([
    { type: 'authenticator.renamed', authenticatorId: authenticator?.id, ...common },
    { type: 'backup_codes.saved', ...common },
  ])
})

test('of any number of wrong codes at once the wait is announced once, and so is the hard cap', async () => {
  const service = await startService(FETCH, { failures: { lockAfter: 5, delayAfter: 3, firstDelaySeconds: 1 } })
  const heard = listen(service)
  const { person, phone } = await enroll(service)
  const guess = () => service.totp.verifyTotpCode(person.id, wrongCode(service, phone)).catch(() => undefined)
  for (let lot = 0; lot < 3; lot++) {
    await Promise.all(Array.from({ length: 20 }, guess))
    service.clock.advance(2)
  }

  const told = heard.filter(({ type }) => type === 'totp.failing' || type === 'totp.locked')
  expect(told).toMatchObject([{ type: 'totp.failing', consecutive: 3 }, { type: 'totp.locked' }])
})

test('support lets a locked user try again, and leaves the factors as they are', async () => {
  const service = await startService(FETCH)
  const enrolled = await enroll(service)
  const { id } = enrolled.person
  for (let failures = 0; failures < 100; failures++) {
    service.clock.advance(901)
    await service.totp.verifyTotpCode(id, wrongCode(service, enrolled.phone)).catch(() => undefined)
  }
  service.clock.advance(86_400)
  await expect(service.totp.verifyTotpCode(id, nextCode(service, enrolled.phone))).rejects.toMatchObject({
    code: 'second_factor_locked',
  })
  expect((await service.totp.getStatus(id)).lockedUntil).toBe('forever')

  await service.totp.unlock(id)

  await logInWithPhone(service, enrolled)
  expect((await service.totp.getStatus(id)).backupCodesRemaining).toBe(10)
})

test('a listener that wants to be waited for is done before the answer, others are not waited for', async () => {
  const service = await startService(FETCH)
  const { access } = await logIn(service, service.register('alice'))
  const order: string[] = []
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  service.totp.on('totp.created', async () => {
    await held
    order.push('one that is not waited for')
  })
  const audit = async () => {
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
    order.push('one that is')
  }
  service.totp.on('totp.created', audit, { awaited: true })

  await service.post('totp/create/', undefined, access)
  order.push('the answer')
  release()
  await held
  await new Promise(setImmediate)

  expect(order).toEqual(['one that is', 'the answer', 'one that is not waited for'])
})

test('a listener that fails fails no request, waited for or not; its failure reaches onError', async () => {
  const service = await startService(FETCH)
  const { access } = await logIn(service, service.register('alice'))
  service.totp.on('totp.created', () => Promise.reject(new Error('the audit log is full')), { awaited: true })
  service.totp.on('totp.created', () => {
    throw new Error('another')
  })

  expect((await service.post('totp/create/', undefined, access)).outcome).toBe('201')

  expect(service.errors.map((error) => (error as Error).message).sort()).toEqual(['another', 'the audit log is full'])
})

test('enforcement without a way to find users, or to name accounts, stops the start', async () => {
  const { createTotp } = await import('totp-kit')
  const options = { issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() }
  const enforcement = { required: () => true, accountName: () => 'ann' }

  await expect(createTotp({ ...options, enforcement })).rejects.toThrow(TypeError)
  const nameless = { required: () => true } as unknown as typeof enforcement
  await expect(createTotp({ ...options, findUser: () => 'ann', enforcement: nameless })).rejects.toThrow(TypeError)
})
