import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTotp, generateFernetKey, type TotpError, type TotpOptions, type TotpStore } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { type MysqlConnection, mysqlStore } from 'totp-kit/store/mysql'
import { type PostgresClient, postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { expect, onTestFinished, test } from 'vitest'
import { addressKey, clientAddress, trustedProxies } from '../../src/http/client-address.ts'
import { challenge, enroll, logInWith, logInWithPhone, nextCode, STEP, sessionIn, wrongCode } from '../http/actors.ts'
import { FETCH, NODE, NOON, startService } from '../http/harness.ts'
import { paths } from '../http/matrix/paths.ts'
import { mysqlPool, postgresPool, services } from '../services.ts'

/** The functions alone, with only what must be given, and a user with a phone. */
async function bare(options: Partial<TotpOptions<unknown>> = {}) {
  const clock = fakeClock(NOON)
  const encryptionKey = generateFernetKey()
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey,
    store: memoryStore(),
    clock: clock.now,
    onError: () => undefined,
    ...options,
  })
  onTestFinished(() => totp.close())
  const phone = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
  await totp.confirmTotpSetup('ann', phone.codeAt(NOON))
  clock.advance(STEP)
  const right = () => phone.codeAt(clock.now())
  const near = Array.from({ length: 23 }, (_, n) => n - 11)
  const wrong = () => {
    const codes = near.map((steps) => phone.codeAt(clock.now() + steps * STEP))
    return String(['111111', '222222', '333333'].find((code) => !codes.includes(code)))
  }
  /** `good`, or why not. */
  const outcome = (code: string) =>
    totp.verifyTotpCode('ann', code).then(
      () => 'good',
      (error: TotpError) => error.code,
    )
  return { totp, clock, right, wrong, outcome }
}

/** Stores that work within a transaction of the host's, and a way to begin one: those whose database is there. */
async function hostTransactions() {
  const hosts: { store: TotpStore; begin(): Promise<{ inside: TotpStore; rollBack(): Promise<void> }> }[] = []
  if (services.postgres) {
    const { pool, drop } = await postgresPool()
    onTestFinished(drop)
    const store = postgresStore(pool)
    await store.migrate()
    const begin = async () => {
      const client = await pool.connect()
      await client.query('BEGIN')
      const rollBack = () => client.query('ROLLBACK').then(() => client.release())
      return { inside: store.within(client as PostgresClient), rollBack }
    }
    hosts.push({ store, begin })
  }
  if (services.mysql) {
    const { pool, drop } = await mysqlPool()
    onTestFinished(drop)
    const store = mysqlStore(pool)
    await store.migrate()
    const begin = async () => {
      const connection = await pool.getConnection()
      await connection.query('START TRANSACTION')
      const rollBack = () => connection.query('ROLLBACK').then(() => connection.release())
      return { inside: store.within(connection as MysqlConnection), rollBack }
    }
    hosts.push({ store, begin })
  }
  return hosts
}

test('CVE-2024-0227, GHSA-chcr-x7hc-8fp8 (devise-two-factor): a service made with nothing but what must be given judges five wrong codes, and no right one for 30 seconds then', async () => {
  const { clock, right, wrong, outcome } = await bare()
  for (let n = 0; n < 5; n++) expect(await outcome(wrong())).toBe('invalid_code')
  expect(await outcome(wrong())).toBe('too_many_attempts')
  expect(await outcome(right())).toBe('too_many_attempts')
  clock.advance(29)
  expect(await outcome(right())).toBe('too_many_attempts')
  clock.advance(1)
  expect(await outcome(right())).toBe('good')
})

test('laravel/fortify #190, #191: limits need not be set up, and limits that let too many guesses through stop the start unless they are named unsafe', async () => {
  const start = (options: object) => bare(options)
  for (const failures of [
    { maxPerPeriod: 5000 },
    { lockAfter: 1000, delayAfter: 100, maxPerPeriod: 100_000, firstDelaySeconds: 1 },
  ]) {
    await expect(start({ failures })).rejects.toThrow(
      /^with these values of failures, .* set failures\.unsafe to true to allow this$/,
    )
    await start({ failures: { ...failures, unsafe: true } })
  }
  for (const none of [0, Number.POSITIVE_INFINITY, '5', -1]) {
    await expect(start({ failures: { delayAfter: none } })).rejects.toThrow(RangeError)
  }
  const service = await startService(FETCH, { rateLimit: '10/minute' })
  const calls = Array.from({ length: 11 }, () => service.post('jwt/create/', { username: 'nobody', password: 'x' }))
  const outcomes = (await Promise.all(calls)).map(({ outcome }) => outcome)
  expect(outcomes.filter((outcome) => outcome === '429 throttled')).toHaveLength(1)
})

test('CVE-2021-41177 (Nextcloud): while a budget or a rate cannot be counted, the call is refused with 503, and a right code is not judged', async () => {
  const service = await startService(FETCH, { rateLimit: '100/minute', rateLimitStorage: 'store' })
  const alice = await enroll(service)
  const totp_challenge_token = await challenge(service, alice.person)
  const otp_code = nextCode(service, alice.phone)
  const verify = () => service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })
  for (const operation of ['readFactors', 'settleAttempt', 'countCall'] as const) {
    service.broken.add(operation)
    const refused = await verify()
    expect(refused.outcome).toBe('503 unavailable')
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    service.broken.delete(operation)
  }
  expect((await verify()).outcome, 'nothing was spent').toBe('200')
})

test("CVE-2026-35597, GHSA-fgfv-pv97-6cmj (Vikunja): a wrong code stays counted when the host's transaction is rolled back, and when whatever follows fails", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'totp-kit-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'app.db')
  const { totp, right, wrong, outcome } = await bare({ store: await sqliteStore(file) })
  const host = await openSqlite(file)
  onTestFinished(() => void host.close())
  for (let n = 0; n < 5; n++) {
    host.prepare('BEGIN').run({})
    host.prepare('SELECT count(*) FROM totp_user').all({})
    expect(await outcome(wrong())).toBe('invalid_code')
    host.prepare('ROLLBACK').run({})
  }
  expect(await outcome(right())).toBe('too_many_attempts')
  await totp.unlock('ann')
  expect(await outcome(right())).toBe('good')

  // The host's transaction that the store itself works in.
  for (const { store, begin } of await hostTransactions()) {
    const encryptionKey = generateFernetKey()
    const outside = await bare({ store, encryptionKey })
    for (let n = 0; n < 5; n++) {
      const { inside, rollBack } = await begin()
      const common = { issuer: 'Acme', encryptionKey, clock: outside.clock.now, onError: () => undefined }
      const totp = await createTotp({ ...common, store: inside })
      await expect(totp.verifyTotpCode('ann', outside.wrong())).rejects.toMatchObject({ code: 'invalid_code' })
      await rollBack()
    }
    expect(await outside.outcome(outside.right())).toBe('too_many_attempts')
    await outside.totp.unlock('ann')
    expect(await outside.outcome(outside.right())).toBe('good')
  }

  const service = await startService(FETCH)
  const alice = await enroll(service)
  // What follows the verdict on a code of another time.
  service.broken.add('noteResyncStep')
  for (let n = 0; n < 5; n++) {
    const input = { otp_code: alice.phone.codeAt(service.clock.now() + 5 * STEP) }
    expect((await service.post('totp/verify/', input, alice.session.access)).outcome).toBe('503 unavailable')
  }
  service.broken.clear()
  const input = { otp_code: alice.phone.codeAt(service.clock.now() + STEP) }
  expect((await service.post('totp/verify/', input, alice.session.access)).outcome).toBe('429 too_many_attempts')
})

test('CVE-2026-56450 (AIL), CVE-2026-27801, GHSA-v6pg-v89r-w8wr (Vaultwarden), CVE-2024-32868, GHSA-7j7j-66cv-m239 (Zitadel), CVE-2026-7671: of 101 wrong codes 100 are judged, and no time that passes opens the second factor again', async () => {
  const { totp, clock, right, wrong, outcome } = await bare()
  const outcomes: string[] = []
  for (let n = 0; n < 101; n++) {
    outcomes.push(await outcome(wrong()))
    clock.advance(900)
  }
  expect(outcomes).toEqual([...Array(100).fill('invalid_code'), 'second_factor_locked'])
  for (const days of [1, 365, 3650]) {
    clock.advance(days * 86_400)
    expect(await outcome(right())).toBe('second_factor_locked')
  }
  await totp.unlock('ann')
  expect(await outcome(right()), 'the support desk opens it').toBe('good')
})

test('CVE-2025-64102, GHSA-xrw9-r35x-x878 (Zitadel): with no option set, every path that takes a code refuses a right one while the budget is spent', async () => {
  const service = await startService(FETCH)
  const taking = paths.filter(({ takes }) => takes !== 'token')
  expect(taking.length).toBeGreaterThan(10)
  for (const [n, path] of taking.entries()) {
    const use = await path.prepare(service, `user ${n}`)
    for (let tries = 0; tries < 5; tries++) {
      expect((await use.send(use.wrong())).outcome, path.name).toBe('400 invalid_code')
    }
    const before = service.clock.now()
    const code = await use.fresh()
    service.clock.advance(before - service.clock.now())
    expect((await use.send(code)).outcome, path.name).toBe('429 too_many_attempts')
  }
})

test('CVE-2026-9798, CVE-2026-16103, CVE-2026-88770 (Keycloak): a lock that begins after the challenge and the session were there holds for both', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { person, phone, session } = alice
  const totp_challenge_token = await challenge(service, person)
  for (let n = 0; n < 5; n++) {
    await expect(service.totp.verifyTotpCode(person.id, wrongCode(service, phone))).rejects.toMatchObject({
      code: 'invalid_code',
    })
  }
  const otp_code = phone.codeAt(service.clock.now() + STEP)
  const late = [
    () => service.post('jwt/totp/verify/', { totp_challenge_token, otp_code }),
    () => service.post('totp/verify/', { otp_code }, session.access),
    () => service.post('totp/disable/', { input_code: otp_code }, session.access),
  ]
  for (const call of late) expect((await call()).outcome).toBe('429 too_many_attempts')
  expect(await service.totp.isTotpEnabled(person.id)).toBe(true)
})

test('CVE-2024-4629 (Keycloak #31726): of 500 codes at once five are judged, and a right one in their midst is not', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const [right, wrong] = [nextCode(service, alice.phone), wrongCode(service, alice.phone)]
  const answers = await Promise.all(
    Array.from({ length: 500 }, (_, n) =>
      service.post('totp/verify/', { otp_code: n === 250 ? right : wrong }, alice.session.access),
    ),
  )
  const outcomes = answers.map(({ outcome }) => outcome)
  expect(outcomes.filter((outcome) => outcome === '400 invalid_code')).toHaveLength(5)
  expect(outcomes.filter((outcome) => outcome === '429 too_many_attempts')).toHaveLength(495)
})

test("CVE-2025-6004 (HashiCorp Vault), pennersr/django-allauth: every spelling of a name and of a code counts in the user's one budget, and nobody else's success clears it", async () => {
  const names: string[] = []
  const service = await startService(FETCH, {
    tokens: {
      // A host that takes a name in any case, and with spaces.
      async authenticate(username) {
        names.push(username)
        return [...service.people.values()].find((one) => one.username === username.trim().toLowerCase())?.id ?? null
      },
    },
  })
  const [alice, bob] = [await enroll(service, 'alice'), await enroll(service, 'bob')]
  const spellings = ['alice', 'ALICE', 'Alice', 'aLICE', 'alicE', 'AliCe']
  const outcomes: string[] = []
  for (const [n, username] of spellings.entries()) {
    const { body } = await service.post('jwt/create/', { username, password: 'any' })
    const wrong = wrongCode(service, alice.phone)
    const otp_code = `${wrong.slice(0, n)} ${wrong.slice(n)}`
    const input = { totp_challenge_token: body.totp_challenge_token, otp_code }
    outcomes.push((await service.post('jwt/totp/verify/', input)).outcome)
    if (n === 3) await service.totp.verifyTotpCode(bob.person.id, nextCode(service, bob.phone))
    if (n === 3) await service.totp.verifyBackupCode(alice.person.id, String(alice.backupCodes[0]))
  }
  expect(new Set(names).size).toBeGreaterThan(5)
  expect(outcomes).toEqual([...Array(5).fill('400 invalid_code'), '429 too_many_attempts'])
})

test('mayswind/ezbookkeeping: a new login brings no new tries', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const outcomes: string[] = []
  for (let n = 0; n < 7; n++) {
    const totp_challenge_token = await challenge(service, alice.person)
    const input = { totp_challenge_token, otp_code: wrongCode(service, alice.phone) }
    outcomes.push((await service.post('jwt/totp/verify/', input)).outcome)
  }
  expect(outcomes).toEqual([...Array(5).fill('400 invalid_code'), ...Array(2).fill('429 too_many_attempts')])
})

test('CVE-2026-45364, GHSA-p6v2-xcpg-h6xw (better-auth), CVE-2024-47070 (authentik), pennersr/django-allauth: an IPv6 network is one caller, and a forged or broken X-Forwarded-For makes no new one', async () => {
  const proxies = trustedProxies(['10.0.0.0/8'])
  expect(clientAddress('203.0.113.9', '198.51.100.7', proxies), 'not from a proxy').toBe('203.0.113.9')
  expect(clientAddress('203.0.113.9', '198.51.100.7', null), 'no proxies named').toBe('203.0.113.9')
  expect(clientAddress('10.0.0.1', '1.2.3.4, 198.51.100.7', proxies), 'the last hop counts').toBe('198.51.100.7')
  for (const garbage of ['', 'unknown', '198.51.100.7:80', '999.1.1.1', 'x'.repeat(5000), '::g', ',,,']) {
    expect(clientAddress('10.0.0.1', garbage, proxies)).toBe('10.0.0.1')
  }
  const inOne = ['2001:db8:1:2::1', '2001:db8:1:2:ffff:ffff:ffff:ffff', '2001:0db8:0001:0002:a::9']
  expect(new Set(inOne.map(addressKey)).size).toBe(1)
  expect(addressKey('2001:db8:1:3::1')).not.toBe(addressKey('2001:db8:1:2::1'))

  const calls = (behindProxy: boolean, forwarded: (n: number) => string) =>
    startService(NODE, { rateLimit: '10/minute', behindProxy }).then(async (service) => {
      const answers: string[] = []
      for (let n = 0; n < 11; n++) {
        const json = { username: 'nobody', password: 'x' }
        const headers = { 'x-forwarded-for': forwarded(n) }
        answers.push((await service.call({ path: 'jwt/create/', json, headers })).outcome)
      }
      return answers.at(-1)
    })
  expect(await calls(false, (n) => `198.51.100.${n}`), 'forged').toBe('429 throttled')
  expect(await calls(true, (n) => `garbage-${n}`), 'broken').toBe('429 throttled')
  expect(await calls(true, (n) => `2001:db8:1:2::${n + 1}`), 'of one network').toBe('429 throttled')
  expect(await calls(true, (n) => `2001:db8:1:${n + 1}::1`), 'of many networks').toBe('401 invalid_credentials')
})

test('VilnaCRM #314, GitLab !92725: a way in that is no endpoint of ours has the same limit, because functions and endpoints count together', async () => {
  for (const [method, field] of [
    ['verifyTotpCode', 'otp_code'],
    ['verifyBackupCode', 'backup_code'],
  ] as const) {
    const service = await startService(FETCH)
    const alice = await enroll(service)
    const { person, session, backupCodes } = alice
    const wrong = field === 'otp_code' ? wrongCode(service, alice.phone) : 'AAAA-AAAA-AAAA-AAAA'
    const right = field === 'otp_code' ? alice.phone.codeAt(service.clock.now() + STEP) : String(backupCodes[0])
    const byFunction = () => service.totp[method](person.id, wrong)
    const byHttp = () => service.post('totp/verify/', { [field]: wrong }, session.access)
    await expect(byFunction()).rejects.toMatchObject({ code: 'invalid_code' })
    expect((await byHttp()).outcome).toBe('400 invalid_code')
    await expect(byFunction()).rejects.toMatchObject({ code: 'invalid_code' })
    expect((await byHttp()).outcome).toBe('400 invalid_code')
    await expect(byFunction()).rejects.toMatchObject({ code: 'invalid_code' })
    expect((await service.post('totp/verify/', { [field]: right }, session.access)).status).toBe(429)
    await expect(service.totp[method](person.id, right)).rejects.toMatchObject({ code: 'too_many_attempts' })
  }
})

test('GHSA-cq42-vhv7-xr7p (Keycloak): a stranger without the password cannot lock a second factor, and one who has it locks neither backup codes nor a trusted device with it', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const { person, phone, backupCodes } = alice
  const { username, password } = person
  for (let n = 0; n < 120; n++) {
    // As long as the longest delay: a failure that is counted is one of the hundred that lock.
    service.clock.advance(900)
    await service.post('jwt/create/', { username, password: `wrong ${n}` })
    await service.post('jwt/totp/verify/', { totp_challenge_token: 'not-a-token', otp_code: '123456' })
    await service.post('totp/verify/', { otp_code: '123456' })
    const link = { uid: Buffer.from(person.id).toString('base64url'), token: 'not-a-token', password: 'wrong' }
    await service.post('totp/recovery_confirm/', link)
  }
  const input = { totp_challenge_token: await challenge(service, person), otp_code: nextCode(service, phone) }
  const trusting = await service.post('jwt/totp/verify/', { ...input, trust_device: true })
  expect(trusting.outcome, 'the owner is let in').toBe('200')
  const session = sessionIn(trusting.body)

  for (let n = 0; n < 5; n++) {
    await service.post('totp/verify/', { otp_code: wrongCode(service, phone) }, session.access)
  }
  const otp_code = phone.codeAt(service.clock.now() + STEP)
  expect((await service.post('totp/verify/', { otp_code }, session.access)).outcome).toBe('429 too_many_attempts')
  const device = await service.post('jwt/create/', {
    username,
    password,
    trusted_device: String(trusting.body.trusted_device),
  })
  expect(device.body).toMatchObject({ is_totp_enabled: false })
  await logInWith(service, person, { backup_code: String(backupCodes[0]) })
  service.clock.advance(STEP)
  await logInWithPhone(service, alice)
})
