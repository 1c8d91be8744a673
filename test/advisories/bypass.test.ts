import fc from 'fast-check'
import { generateFernetKey, type Proof } from 'totp-kit'
import { expect, test } from 'vitest'
import { createKeyring } from '../../src/crypto/keyring.ts'
import { tokenSealer } from '../../src/crypto/sealed-token.ts'
import {
  beginEnrollment,
  challenge,
  claimsIn,
  enroll,
  logIn,
  logInWith,
  logInWithPhone,
  nextCode,
  sessionIn,
} from '../http/actors.ts'
import { answerOf } from '../http/answer.ts'
import { FETCH, NODE, type Person, type Service, startService } from '../http/harness.ts'
import { callerRows, posts } from '../http/rows.ts'

/** Every text in a body, however deep. */
function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : []
}

/** Whether anything opens with what is presented, in a header, a cookie or the query. */
async function openedBy(service: Service, presented: string): Promise<string[]> {
  const ways: ((path: string) => { path: string; headers: Record<string, string> })[] = [
    (path) => ({ path, headers: { authorization: `Bearer ${presented}` } }),
    (path) => ({ path, headers: { authorization: presented } }),
    (path) => ({ path, headers: { cookie: `session=${presented}; access=${presented}; token=${presented}` } }),
    (path) => ({ path: `${path}?access_token=${encodeURIComponent(presented)}&token=${presented}`, headers: {} }),
  ]
  const routes = [
    ...callerRows.map(({ method, path }) => ({ method, path: `${path}/` })),
    { method: 'GET', path: '/vault' },
  ]
  const opened: string[] = []
  for (const { method, path } of routes) {
    for (const way of ways) {
      // The host's own route is not asked with a query: the host would have to read it.
      const call = way(path)
      if (call.path.startsWith('/vault?')) continue
      const { status } = await service.send({ method, ...call })
      if (status !== 401) opened.push(`${method} ${path} ${status}`)
    }
  }
  return opened
}

function first({ username, password }: Person) {
  return { username, password }
}

test('GHSA-xg6x-h9c9-2m83 (better-auth): what the first factor alone is answered, cookies included, opens no protected route', async () => {
  const service = await startService(NODE, { trustedDevices: { days: 30, cookie: 'device' } })
  const { person } = await enroll(service)
  const answer = await service.post('jwt/create/', first(person))
  expect(answer.headers).not.toHaveProperty('set-cookie')
  const texts = textsIn(answer.body)
  // The token, and the two kinds of code.
  expect(texts).toHaveLength(3)
  for (const text of texts) expect(await openedBy(service, text)).toEqual([])
})

test('CVE-2026-45691 (Nextcloud): a challenge token opens no protected route, in a header, a cookie or the query', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const token = await challenge(service, alice.person)
  expect(await openedBy(service, token)).toEqual([])
  expect(await openedBy(service, (await logInWithPhone(service, alice)).access)).not.toEqual([])
  expect((await service.post('jwt/refresh/', { refresh: token })).outcome).toBe('401 invalid_token')
  expect((await service.post('jwt/verify/', { token })).outcome).toBe('401 invalid_token')
})

test('SA-CONTRIB-2023-030 (Drupal TFA), flask-security #258, CVE-2026-18963 (Keycloak): after a password reset the second factor is asked for as before, also on a trusted device', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { person, phone } = alice
  const opened = await challenge(service, person)
  const input = { totp_challenge_token: await challenge(service, person), otp_code: nextCode(service, phone) }
  const { body } = await service.post('jwt/totp/verify/', { ...input, trust_device: true })
  person.password = 'a new password'
  await service.totp.credentialsChanged(person.id)
  const { trusted_device, refresh } = body
  expect((await service.post('jwt/create/', { ...first(person), trusted_device })).body).toMatchObject({
    is_totp_enabled: true,
    totp_challenge_token: expect.any(String),
  })
  const late = { totp_challenge_token: opened, otp_code: nextCode(service, phone) }
  expect((await service.post('jwt/totp/verify/', late)).outcome).toBe('400 challenge_invalid')
  expect((await service.post('jwt/refresh/', { refresh })).outcome).toBe('401 invalid_token')
})

test('CVE-2026-94218 (Keycloak #53070), GHSA-xp7f-xjjx-gwm8, CVE-2026-49443 (authentik): no order of calls without a code ends in a session: begun anew, repeated, left empty', async () => {
  const service = await startService(FETCH, { challengeTokenSeconds: 3600 })
  const { person } = await enroll(service)
  const targets = posts.filter(({ path }) => path !== 'jwt/create' && !path.startsWith('totp/recovery'))
  const nothing = fc.constantFrom(undefined, null, '', ' ', '000000', [], {}, true, 0)
  const move = fc.record({
    restarts: fc.nat(3).map((n) => n === 0),
    target: fc.constantFrom(...targets),
    token: fc.nat(50),
    code: nothing,
    other: nothing,
    asBearer: fc.boolean(),
  })
  const tokens = ['not-a-token']
  await fc.assert(
    fc.asyncProperty(fc.array(move, { minLength: 5, maxLength: 12 }), async (moves) => {
      for (const { restarts, target, token: n, code, other, asBearer } of moves) {
        if (restarts) tokens.push(await challenge(service, person))
        const token = String(tokens[n % tokens.length])
        const json = {
          totp_challenge_token: token,
          refresh: token,
          token,
          otp_code: code,
          backup_code: other,
          input_code: code,
        }
        const call = { method: target.method, path: `${target.path}/`, json, ...(asBearer ? { bearer: token } : {}) }
        expect((await service.send(call)).status, target.path).toBeGreaterThanOrEqual(400)
      }
      // Wrong codes wait; that is another rule.
      await service.totp.unlock(person.id)
    }),
    { numRuns: 40 },
  )
  expect(tokens.length).toBeGreaterThan(10)
  expect(await service.totp.isTotpEnabled(person.id)).toBe(true)
})

test('CVE-2026-56256, GHSA-cww4-5xfp-jw98 (Capgo), directus/directus #18506: a second factor that a user must have is asked for at the endpoints: over plain HTTP there is no session before one is enrolled', async () => {
  const service = await startService(NODE, {
    enforcement: { required: ({ username }) => username === 'alice', accountName: ({ email }) => email },
  })
  const alice = service.register('alice')
  const { body } = await service.post('jwt/create/', first(alice))
  expect(Object.keys(body).sort()).toEqual(['enrollment_token', 'expires_in', 'is_totp_enabled', 'must_enroll'])
  const token = String(body.enrollment_token)
  expect((await service.send({ method: 'GET', path: '/vault', bearer: token })).status).toBe(401)
  const toEnrollment = ['createTotpSetup', 'confirmTotpSetup', 'getStatus']
  for (const { method, path } of callerRows.filter(({ operationId }) => !toEnrollment.includes(operationId))) {
    expect((await service.call({ method, path: `${path}/`, bearer: token })).outcome, path).toBe('401 unauthenticated')
  }
  expect((await service.post('jwt/refresh/', { refresh: token })).outcome).toBe('401 invalid_token')
  const phone = await beginEnrollment(service, token)
  await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, token)
  expect((await service.get('totp/status/', token)).outcome, 'the token has done its work').toBe('401 unauthenticated')
  await logInWith(service, alice, { otp_code: nextCode(service, phone) })
})

test('CVE-2026-3429 (Keycloak), danny-avila/LibreChat #12223, KeeperHub #1523, better-auth (by running it): once 2FA is on, nothing of it is changed or shown on the strength of a password, and a new phone that is not confirmed changes nothing', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const alice = await enroll(service)
  const { person, session, phone } = alice
  const { authenticators } = await service.totp.getStatus(person.id)
  const id = authenticators[0]?.id
  const before = await service.totp.listBackupCodes(person.id)
  const changes = [
    ['POST', 'totp/create/'],
    ['POST', 'totp/disable/'],
    ['POST', 'totp/rotate_backup_codes/'],
    ['GET', 'totp/backup_codes/'],
    ['DELETE', `totp/authenticators/${id}/`],
    ['DELETE', 'totp/trusted_devices/any/'],
  ] as const
  const stale = await logInWithPhone(service, alice)
  service.clock.advance(299)
  const restarted = sessionIn((await service.post('jwt/refresh/', { refresh: stale.refresh })).body)
  service.clock.advance(2)
  for (const bearer of [restarted.access, sessionIn((await service.post('jwt/refresh/', session)).body).access]) {
    for (const [method, path] of changes) {
      const answer = await service.call({ method, path, bearer })
      expect(answer.outcome, `${method} ${path}`).toBe('401 step_up_required')
    }
  }
  expect(await service.totp.listBackupCodes(person.id)).toEqual(before)
  expect((await service.totp.getStatus(person.id)).authenticators).toHaveLength(1)

  const { access } = await logInWithPhone(service, alice)
  await beginEnrollment(service, access)
  await logInWith(service, person, { otp_code: nextCode(service, phone) })
})

test('GHSA-wc43-73w7-x2f5 (Ory Kratos), supabase/auth #1615: a factor that is not confirmed counts for nothing, and a session at the first level neither adds nor confirms one beside a live one', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 3 })
  const bob = service.register('bob')
  const session = await logIn(service, bob)
  const pending = await beginEnrollment(service, session.access)
  const otp_code = pending.codeAt(service.clock.now())
  expect((await service.post('totp/verify/', { otp_code }, session.access)).outcome).toBe('400 totp_not_enabled')
  const again = await logIn(service, bob)
  expect(claimsIn(again.access)).toMatchObject({ amr: ['pwd'], acr: 'aal1' })
  const guarded = await answerOf(await service.send({ method: 'GET', path: '/vault', bearer: again.access }))
  expect(guarded.outcome).toBe('403 second_factor_required')
  expect((await service.get('totp/status/', again.access)).body).toMatchObject({ is_totp_enabled: false })

  const alice = await enroll(service, 'alice')
  const { access } = alice.session
  expect(claimsIn(access), 'the token from before the session was raised').toMatchObject({ acr: 'aal1' })
  expect((await service.post('totp/create/', undefined, access)).outcome).toBe('401 step_up_required')
  const input_code = nextCode(service, alice.phone)
  expect((await service.post('totp/confirm/', { input_code }, access)).outcome).toBe('400 totp_already_enabled')
  const stale = await answerOf(await service.send({ method: 'GET', path: '/vault', bearer: access }))
  expect(stale.outcome).toBe('401 step_up_required')
  expect((await service.totp.getStatus(alice.person.id)).authenticators).toHaveLength(1)
})

test("CVE-2026-0723 (GitLab): an answer is good for the challenge that was made here, for that user: a forged token, one that was altered, and another user's code are refused", async () => {
  const service = await startService(FETCH)
  const [alice, bob] = [await enroll(service, 'alice'), await enroll(service, 'bob')]
  const token = await challenge(service, alice.person)
  const otp_code = nextCode(service, alice.phone)
  const claims = { id: 'AAAAAAAAAAAAAAAAAAAAAA', userId: alice.person.id, generation: 1, more: 'pwd' }
  const at = service.clock.now()
  const forged = [
    tokenSealer(createKeyring([generateFernetKey()]), { kind: 'challenge', issuer: 'Acme' }, 120).seal(claims, at),
    service.totp.encrypt(JSON.stringify([claims.id, claims.userId, 1, 'pwd'])),
    ...[1, 20, 40, token.length - 5].map(
      (n) => token.slice(0, n) + (token[n] === 'A' ? 'B' : 'A') + token.slice(n + 1),
    ),
    `${token.slice(0, -4)}`,
    `${token}AAAA`,
  ]
  for (const totp_challenge_token of forged) {
    const answer = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })
    expect(answer.outcome).toBe('400 challenge_invalid')
  }
  const ofBob = await challenge(service, bob.person)
  const crossed = await service.post('jwt/totp/verify/', { totp_challenge_token: ofBob, otp_code })
  expect(crossed.outcome).toBe('400 invalid_code')
  const own = await service.post('jwt/totp/verify/', { totp_challenge_token: token, otp_code })
  expect(claimsIn(sessionIn(own.body).access)).toMatchObject({ sub: alice.person.id })
})

test('CVE-2026-56350, GHSA-vjf3-2gpj-233v (n8n): members that nobody declared change nothing: not whose factor it is, nor whether it is on, nor who must have one', async () => {
  const service = await startService(FETCH, {
    enforcement: { required: ({ username }) => username === 'carol', accountName: ({ email }) => email },
  })
  const [alice, bob] = [await enroll(service, 'alice'), await enroll(service, 'bob')]
  const carol = service.register('carol')
  const extra = {
    user_id: bob.person.id,
    userId: bob.person.id,
    sub: bob.person.id,
    id: bob.person.id,
    is_totp_enabled: false,
    must_enroll: false,
    required: false,
    enforcement: null,
    stepUp: false,
    confirmed_at: null,
    amr: ['pwd', 'otp', 'mfa'],
    acr: 'aal2',
    verified_at: service.clock.now(),
    backup_codes: ['AAAA-AAAA-AAAA-AAAA'],
    secret: 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP',
    failures: { consecutive: 0, maxPerPeriod: 100_000 },
    maxAuthenticators: 5,
  }
  const before = await Promise.all([alice, bob].map(({ person }) => service.totp.getStatus(person.id)))
  const odd = [
    extra,
    JSON.parse('{"__proto__":{"stepUp":false,"input_code":"1"},"constructor":{"prototype":{"mfa":true}}}'),
  ]
  for (const more of odd) {
    for (const { path, method, required, caller } of posts.filter(({ path }) => !path.startsWith('totp/recovery'))) {
      const call = (json: object) =>
        service.call({ method, path: `${path}/`, json, ...(caller ? { bearer: alice.session.access } : {}) })
      expect((await call({ ...more, ...required })).outcome, path).toBe((await call(required)).outcome)
      await service.totp.unlock(alice.person.id)
    }
    const must = await service.post('jwt/create/', { ...more, ...first(carol) })
    expect(must.body).toMatchObject({ must_enroll: true })
    expect((await service.post('jwt/create/', { ...more, ...first(alice.person) })).body).toMatchObject({
      is_totp_enabled: true,
    })
  }
  const after = await Promise.all([alice, bob].map(({ person }) => service.totp.getStatus(person.id)))
  // Alice herself said that she has kept her codes.
  expect(after.map((status) => ({ ...status, backupCodesSavedAt: null }))).toEqual(before)
  expect({}).not.toHaveProperty('mfa')
})

test('CVE-2025-53942 (authentik): a user who is deactivated between the two steps gets no session, and no new tokens either', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { person, phone, session } = alice
  const totp_challenge_token = await challenge(service, person)
  service.deactivated.add(person.id)
  const late = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: nextCode(service, phone) })
  expect(late.outcome).toBe('400 challenge_invalid')
  expect((await service.post('jwt/refresh/', { refresh: session.refresh })).outcome).toBe('401 invalid_token')
  expect((await service.post('jwt/verify/', { token: session.access })).outcome).toBe('401 invalid_token')
  service.deactivated.clear()
  const back = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: nextCode(service, phone) })
  expect(back.outcome, 'nothing was used up').toBe('200')
})

test('GHSA-29r8-gvx4-r9w3 (TYPO3 mfa_email), GHSA-j679-vp39-qwqq (pingvin-share-x), accounts-js/accounts #1227: nothing but a right code passes, of whatever type, and a verification gives a proof or throws', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { person, phone, session, backupCodes } = alice
  const right = nextCode(service, phone)
  const nothing = [
    undefined,
    null,
    true,
    false,
    0,
    Number(right),
    '',
    [],
    [right],
    {},
    { code: right },
    '0',
    'null',
    'NaN',
  ]
  for (const value of nothing) {
    for (const verify of [service.totp.verifyTotpCode, service.totp.verifyBackupCode]) {
      const given = await verify(person.id, value as string).then(
        () => 'passed',
        (error: Error) => error.name,
      )
      expect(given, JSON.stringify(value)).toMatch(/^TotpError$|^TypeError$/)
    }
    await service.totp.unlock(person.id)
    for (const member of ['otp_code', 'backup_code']) {
      const { outcome } = await service.post('totp/verify/', { [member]: value }, session.access)
      expect(outcome, JSON.stringify(value)).toMatch(/^400 (validation_failed|invalid_code)$/)
    }
    await service.totp.unlock(person.id)
  }
  const proof = await service.totp.verifyTotpCode(person.id, right)
  expect(proof).toMatchObject({ userId: person.id, method: 'totp' })
  const alike = [true, {}, { ...proof }, Promise.resolve(proof), JSON.parse(JSON.stringify(proof))]
  for (const value of alike) await expect(service.tokens.issueTokens(value as Proof)).rejects.toThrow(TypeError)
  await service.tokens.issueTokens(await service.totp.verifyBackupCode(person.id, String(backupCodes[0])))
})

test('nginx-http-auth-totp #8: an unknown user and an unknown authenticator are refused, and an unknown user as a wrong password is', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const code = nextCode(service, alice.phone)
  for (const userId of ['nobody', '0', 'null', 'undefined', '__proto__', 'constructor']) {
    await expect(service.totp.verifyTotpCode(userId, code)).rejects.toMatchObject({ code: 'totp_not_set_up' })
    const [backupCode] = alice.backupCodes as [string]
    await expect(service.totp.verifyBackupCode(userId, backupCode)).rejects.toMatchObject({ code: 'totp_not_set_up' })
    const totp_challenge_token = await service.totp.generateChallengeToken(userId)
    const answer = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code: code })
    expect(answer.outcome).toBe('400 challenge_invalid')
  }
  for (const userId of ['', undefined, null, 1, {}, ['1']]) {
    await expect(service.totp.verifyTotpCode(userId as string, code)).rejects.toThrow(TypeError)
  }
  const { access } = await logInWithPhone(service, alice)
  const absent = await service.call({ method: 'DELETE', path: 'totp/authenticators/none/', bearer: access })
  expect(absent.outcome).toBe('404 not_found')
  const unknown = await service.post('jwt/create/', { username: 'nobody', password: 'any password' })
  const wrong = await service.post('jwt/create/', { username: 'alice', password: 'any password' })
  const without = ({ date: _, ...headers }: Record<string, string>) => headers
  expect([unknown.status, unknown.text, without(unknown.headers)]).toEqual([
    wrong.status,
    wrong.text,
    without(wrong.headers),
  ])
})
