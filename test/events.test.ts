import { type By, generateFernetKey, type Totp, TotpError, type TotpEvent } from 'totp-kit'
import type { Notification } from 'totp-kit/mail'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor } from 'totp-kit/testing'
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

test('an event names the session that caused it; a login, a recovery and a request of nobody have none', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const { call } = service
  let current: unknown
  const heard: { type: string; sessionId: unknown; expected: unknown }[] = []
  const listener = ({ type, sessionId }: TotpEvent) => void heard.push({ type, sessionId, expected: current })
  service.totp.on('*', listener, { awaited: true })
  service.call = async (request) => {
    const token = request.bearer ?? (request.path === 'jwt/refresh/' ? refreshOf(request.json) : undefined)
    current = token && claimsIn(token).sid
    const answer = await call(request)
    current = undefined
    return answer
  }
  service.post = (path, json, bearer) => service.call({ method: 'POST', path, json, bearer })
  await exerciseAll(service)
  const { access } = await logIn(service, service.register('carol'))
  await beginEnrollment(service, access)

  expect(heard.filter(({ sessionId, expected }) => sessionId !== expected)).toEqual([])
  const named = new Set(heard.filter(({ sessionId }) => sessionId !== undefined).map(({ type }) => type))
  expect(TOTP_EVENTS.filter((type) => heard.some((event) => event.type === type) && !named.has(type))).toEqual([
    'login.challenged',
    'trusted_device.kept',
    'trusted_device.used',
    'recovery.requested',
    'recovery.refused',
    'recovery.confirmed',
    'recovery.canceled',
  ])
})

const refreshOf = (json: unknown) => (json as { refresh?: string } | undefined)?.refresh

test('the guard and permitChange name the session of the caller whom they refuse', async () => {
  const service = await startService(FETCH)
  const { person, session } = await enroll(service)
  const heard = listen(service)
  await service.send({ method: 'GET', path: '/vault', bearer: session.access })
  const caller = { id: person.id, accountName: 'ann', sessionId: 'own', actor: 'support:bob' }
  await expect(service.totp.requireFresh(caller, { maxAgeSeconds: 60 })).rejects.toThrow(TotpError)
  await expect(service.totp.permitChange({ ...caller, actor: undefined })).rejects.toThrow(TotpError)
  await expect(service.totp.permitChange({ ...caller, sessionId: null }, '000 000')).rejects.toThrow(TotpError)

  const { at } = heard[0] as TotpEvent
  const refused = { type: 'step_up.refused', userId: person.id, at }
  expect(heard).toEqual([
    { ...refused, sessionId: claimsIn(session.access).sid },
    { ...refused, sessionId: 'own', actor: 'support:bob' },
    { ...refused, sessionId: 'own' },
    { ...refused, type: 'totp.refused', method: 'totp', code: 'invalid_code', actor: 'support:bob' },
  ])
})

/** Every function that accepts {@link By}, in an order in which each can do something. */
async function everyCall(service: Service) {
  const { totp, clock } = service
  const secret = 'JBSWY3DPEHPK3PXP'
  const ann = service.register('ann').id
  const phone = authenticatorFor((await totp.createTotpSetup({ id: ann, accountName: 'ann' })).uri)
  const { backupCodes } = await totp.confirmTotpSetup(ann, phone.codeAt(clock.now()))
  const typed = () => nextCode(service, phone)
  const device = async () => {
    const proof = await totp.verifyTotpCode(ann, typed())
    await totp.trustDevice(proof)
    return String((await totp.listTrustedDevices(ann))[0]?.id)
  }
  const newest = async () => String((await totp.getStatus(ann)).authenticators.at(-1)?.id)
  const bob = service.register('bob').id
  const setup = async () => authenticatorFor((await totp.createTotpSetup({ id: bob, accountName: 'bob' })).uri)
  const [deviceId, pending] = [await device(), await setup()]
  await device()
  const calls: [name: keyof Totp, call: (by: By) => Promise<unknown>][] = [
    ['confirmTotpSetup', (by) => totp.confirmTotpSetup(bob, pending.codeAt(clock.now()), by)],
    ['createTotpSetup', (by) => totp.createTotpSetup({ id: bob, accountName: 'bob', ...by })],
    ['verifyTotpCode', (by) => totp.verifyTotpCode(ann, typed(), by)],
    ['verifyBackupCode', (by) => totp.verifyBackupCode(ann, String(backupCodes?.[0]), by)],
    ['removeTrustedDevice', (by) => totp.removeTrustedDevice(ann, deviceId, by)],
    ['removeTrustedDevices', (by) => totp.removeTrustedDevices(ann, by)],
    ['importAuthenticator', (by) => totp.importAuthenticator(ann, { secret }, by)],
    ['renameAuthenticator', async (by) => totp.renameAuthenticator(ann, await newest(), 'Tablet', by)],
    ['removeAuthenticator', async (by) => totp.removeAuthenticator(ann, await newest(), by)],
    ['storeBackupCodes', (by) => totp.storeBackupCodes(ann, ['abcdefghij'], by)],
    ['rotateBackupCodes', (by) => totp.rotateBackupCodes(ann, by)],
    ['listBackupCodes', (by) => totp.listBackupCodes(ann, by)],
    ['backupCodesSaved', (by) => totp.backupCodesSaved(ann, by)],
    ['unlock', (by) => totp.unlock(ann, by)],
    ['credentialsChanged', (by) => totp.credentialsChanged(ann, by)],
    ['disableTotp', (by) => totp.disableTotp(ann, by)],
    ['forgetUser', (by) => totp.forgetUser(bob, by)],
  ]
  return calls
}

test('every function that changes or verifies factors announces the session and the actor that the host names', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const calls = await everyCall(service)
  const heard = listen(service)
  for (const [name, call] of calls) {
    await call({ sessionId: `session of ${name}`, actor: `support:${name}` })
    const found = heard.splice(0).map(({ sessionId, actor }) => ({ sessionId, actor }))

    expect(found.length, name).toBeGreaterThan(0)
    expect(new Set(found.map((by) => JSON.stringify(by))), name).toEqual(
      new Set([JSON.stringify({ sessionId: `session of ${name}`, actor: `support:${name}` })]),
    )
  }
})

/** They accept a session, which may have members of the host's own. */
const WITH_SESSION = ['confirmTotpSetup', 'createTotpSetup', 'verifyTotpCode', 'verifyBackupCode']

test('an actor that is no text of 1 to 255 characters, or is misspelled, is refused before anything happens', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const calls = await everyCall(service)
  const heard = listen(service)
  for (const [name, call] of calls) {
    for (const actor of ['', 'a'.repeat(256), 5, null, 'a\0', '\ud800'] as string[]) {
      await expect(call({ actor }), `${name} ${actor}`).rejects.toThrow(TypeError)
    }
    if (WITH_SESSION.includes(name)) continue
    const misspelled = call({ actr: 'support:ann' } as By)
    await expect(misspelled, name).rejects.toThrow('unknown option actr: did you mean actor?')
  }
  expect(heard).toEqual([])

  for (const [name, call] of calls) {
    await call({ actor: '😀'.repeat(255), sessionId: null })
    expect(heard.length, name).toBeGreaterThan(0)
    for (const event of heard.splice(0)) expect(event, name).not.toHaveProperty('sessionId')
  }
})

test('a change by the host ends all sessions but the one that it names', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const { totp, tokens, clock } = service
  const { person, phone } = await enroll(service)
  clock.advance(1) // Authenticators are listed by age.
  await totp.importAuthenticator(person.id, { secret: 'JBSWY3DPEHPK3PXP' })
  const imported = String((await totp.getStatus(person.id)).authenticators.at(-1)?.id)
  const [own, other] = [
    await logInWithPhone(service, { person, phone }),
    await logInWithPhone(service, { person, phone }),
  ]
  const sessionId = String(claimsIn(own.access).sid)
  const heard = listen(service)

  await totp.removeAuthenticator(person.id, imported, { sessionId })
  await expect(tokens.refreshTokens(other.refresh)).rejects.toMatchObject({ code: 'invalid_token' })
  const { refresh } = await tokens.refreshTokens(own.refresh)
  const third = await logInWithPhone(service, { person, phone })
  await totp.disableTotp(person.id, { sessionId })
  await expect(tokens.refreshTokens(third.refresh)).rejects.toMatchObject({ code: 'invalid_token' })
  await tokens.refreshTokens(refresh)

  const ended = { type: 'sessions.ended', userId: person.id, sessionId, keptSessionId: sessionId }
  const found = heard.filter(({ type }) => type === 'sessions.ended')
  expect(found).toEqual([
    { ...ended, at: expect.any(Number) },
    { ...ended, at: clock.now() },
  ])
})

test('a new name and saved backup codes are announced, the name is not', async () => {
  const service = await startService(FETCH)
  const { person, raised } = await enroll(service)
  const [authenticator] = (await service.totp.getStatus(person.id)).authenticators
  const heard = listen(service)
  const path = `totp/authenticators/${authenticator?.id}/`
  await service.call({ method: 'PATCH', path, json: { name: 'Old phone' }, bearer: raised.access })
  await service.post('totp/backup_codes_saved/', undefined, raised.access)

  const common = { userId: person.id, at: service.clock.now(), sessionId: claimsIn(raised.access).sid }
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
