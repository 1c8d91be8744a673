import * as OTPAuth from 'otpauth'
import { createTotp, generateFernetKey, generateTotpSecret, type Totp } from 'totp-kit'
import { accountRecovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor } from 'totp-kit/testing'
import ts from 'typescript'
import { expect, onTestFinished, test } from 'vitest'
import { endpoints } from '../../src/contract/endpoints.ts'
import { createKeyring } from '../../src/crypto/keyring.ts'
import { tokenSealer } from '../../src/crypto/sealed-token.ts'
import { decodeBase32 } from '../../src/otp/base32.ts'
import { currentTables } from '../../src/store/sql/migrations.ts'
import { tablesOf } from '../../src/store/sql/tables.ts'
import { startDemo } from '../demo/demo-process.ts'
import {
  beginEnrollment,
  challenge,
  enroll,
  linkIn,
  logIn,
  logInWithPhone,
  nextCode,
  STEP,
  sessionIn,
} from '../http/actors.ts'
import { exerciseAll } from '../http/exercise-all.ts'
import { FETCH, NODE, type Service, startService } from '../http/harness.ts'
import { oneOfEachKind } from '../http/matrix/paths.ts'
import { fields } from '../http/rows.ts'
import { filesUnder, readText } from '../markdown.ts'

async function recoveryLink(service: Service, email: string) {
  const before = service.mails.length
  await service.post('totp/recovery/', { email })
  await service.mailed(before + 1)
  return linkIn(service.mails[before] as (typeof service.mails)[number])
}

const headersOf = ({ headers: { date: _, ...headers } }: { headers: Record<string, string> }) => headers

test('artifact-keeper #1820, wg-easy/wg-easy #2775, django-totp (by reading it): a challenge leads to one session, with two right codes one after the other and at once', async () => {
  const service = await startService(NODE)
  const alice = await enroll(service)
  const { person, phone, backupCodes } = alice
  for (const isAtOnce of [false, true]) {
    const totp_challenge_token = await challenge(service, person)
    const otp_code = nextCode(service, phone)
    const codes = [{ otp_code }, { backup_code: String(backupCodes.pop()) }]
    const send = (code: object) => service.post('jwt/totp/verify/', { totp_challenge_token, ...code })
    const answers = isAtOnce
      ? await Promise.all(codes.map(send))
      : [await send(codes[0] ?? {}), await send(codes[1] ?? {})]
    expect(answers.map(({ outcome }) => outcome).sort()).toEqual(['200', '400 challenge_invalid'])
  }
})

test('CVE-2025-46815 (Zitadel), CVE-2026-37982 (Keycloak), CVE-2022-23555, CVE-2023-26481 (authentik): a recovery link works once, for the user whom it names, and where it belongs', async () => {
  const service = await startService(FETCH)
  const [alice, bob] = [await enroll(service, 'alice'), await enroll(service, 'bob')]
  const link = await recoveryLink(service, alice.person.email)
  const ofBob = await recoveryLink(service, bob.person.email)
  const { password } = alice.person
  const confirm = (uid: string, token: string) => service.post('totp/recovery_confirm/', { uid, token, password })
  expect((await confirm(ofBob.uid, link.token)).outcome).toBe('400 recovery_link_invalid')
  expect((await confirm(link.uid, ofBob.token)).outcome).toBe('400 recovery_link_invalid')
  expect((await confirm(link.uid, await challenge(service, alice.person))).outcome).toBe('400 recovery_link_invalid')
  const input = { totp_challenge_token: link.token, otp_code: nextCode(service, alice.phone) }
  expect((await service.post('jwt/totp/verify/', input)).outcome).toBe('400 challenge_invalid')
  expect(await service.totp.isTotpEnabled(alice.person.id)).toBe(true)
  expect((await confirm(link.uid, link.token)).outcome).toBe('204')
  expect((await confirm(link.uid, link.token)).outcome).toBe('400 recovery_link_invalid')
  expect(await service.totp.isTotpEnabled(bob.person.id)).toBe(true)
})

test('django-totp, django-trench (by reading them): a token of one kind is refused wherever another kind is asked for, and a link that was used stays dead when the user enrolls anew', async () => {
  const service = await startService(FETCH, {
    enforcement: { required: ({ username }) => username.startsWith('must-enroll'), accountName: ({ email }) => email },
  })
  const kinds = await oneOfEachKind(service)
  const own: Record<string, string[]> = {
    totp_challenge_token: ['challenge'],
    refresh: ['refresh'],
    token: [],
    trusted_device: ['trusted device'],
  }
  const taking = fields.filter(({ field }) => Object.hasOwn(own, field))
  expect(taking.length).toBeGreaterThan(5)
  const { username, password } = [...service.people.values()].find((one) => one.username === 'kinds') ?? {}
  for (const { path, field, required } of taking) {
    for (const [kind, value] of Object.entries(kinds)) {
      const isOwn =
        own[field]?.includes(kind) ||
        (path === 'jwt/verify' && /access|refresh/.test(kind)) ||
        (path.startsWith('totp/recovery') && kind === 'recovery')
      if (isOwn) continue
      const answer = await service.post(`${path}/`, { ...required, username, password, [field]: value })
      const isRefused = answer.status >= 400 || answer.body.is_totp_enabled === true
      expect(isRefused, `${kind} in ${field} of ${path}`).toBe(true)
    }
  }

  const alice = await enroll(service, 'alice')
  const link = { ...(await recoveryLink(service, alice.person.email)), password: alice.person.password }
  expect((await service.post('totp/recovery_confirm/', link)).outcome).toBe('204')
  const { access } = await logIn(service, alice.person)
  service.clock.advance(STEP)
  const phone = await beginEnrollment(service, access)
  await service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, access)
  expect((await service.post('totp/recovery_confirm/', link)).outcome).toBe('400 recovery_link_invalid')
  expect(await service.totp.isTotpEnabled(alice.person.id)).toBe(true)
})

test('GHSA-qgqp-xh8r-v73r (authentik): the recovery mail goes to the address that is kept, whatever the request says', async () => {
  const service = await startService(FETCH)
  const { person } = await enroll(service)
  const attempts = [
    { email: 'ALICE@EXAMPLE.COM' },
    { email: person.email, to: 'mallory@evil.example', recipient: 'mallory@evil.example' },
    { email: person.email, addresses: ['mallory@evil.example'], cc: 'mallory@evil.example', user_id: person.id },
  ]
  for (const attempt of attempts) await service.post('totp/recovery/', attempt)
  await service.mailed(3)
  expect(service.mails.map(({ to }) => to)).toEqual(Array(3).fill(person.email))
  for (const email of ['alice@example.com,mallory@evil.example', 'alice@example.com\nBcc: mallory@evil.example']) {
    await service.post('totp/recovery/', { email })
  }
  await service.totp.close()
  expect(service.mails).toHaveLength(3)
})

test('CVE-2026-43914 (Vaultwarden): asking for a recovery mail says nothing of an address or a password, and without a good link a right password is answered like a wrong one', async () => {
  const service = await startService(FETCH)
  const { person } = await enroll(service)
  const other = service.register('without-2fa')
  const emails = [person.email, other.email, 'nobody@example.com', 'not-an-address@x']
  const answers = await Promise.all(emails.map((email) => service.post('totp/recovery/', { email })))
  for (const { status, text, ...answer } of answers) {
    expect([status, text, headersOf(answer)]).toEqual([200, answers[0]?.text, headersOf(answers[0] ?? answer)])
  }
  const link = await recoveryLink(service, person.email)
  await service.post('totp/recovery_cancel/', link)
  for (const token of ['not-a-token', link.token]) {
    const confirm = (password: string) => service.post('totp/recovery_confirm/', { ...link, token, password })
    const [right, wrong] = [await confirm(person.password), await confirm('wrong')]
    expect(right.outcome).toBe('400 recovery_link_invalid')
    expect([right.status, right.text, headersOf(right)]).toEqual([wrong.status, wrong.text, headersOf(wrong)])
  }
  // Its time says nothing either: the address is not even looked at before the answer.
  let look = () => {}
  const mayLook = new Promise<void>((resolve) => {
    look = resolve
  })
  const sent: string[] = []
  const recovery = accountRecovery(service.totp as Totp, {
    findAccount: (email) => mayLook.then(() => (email === person.email ? { userId: person.id, email } : null)),
    checkPassword: async () => false,
    send: async ({ to }) => void sent.push(to),
    pageUrl: 'https://app.example/recover',
  })
  for (const email of emails) await recovery.requestRecovery(email)
  look()
  await service.totp.close()
  expect(sent).toEqual([person.email])
})

test('CVE-2020-15105, GHSA-vhr6-pvjm-9qwf (django-two-factor-auth): between the two steps the password is kept nowhere: not in the database, not in the challenge', async () => {
  const connection = await openSqlite(':memory:')
  const store = await sqliteStore(connection)
  const encryptionKey = generateFernetKey()
  const service = await startService({ ...FETCH, store: async () => store }, { encryptionKey })
  const { person } = await enroll(service)
  const token = await challenge(service, person)
  const rows = currentTables.flatMap(({ name }) => connection.prepare(`SELECT * FROM ${tablesOf()[name]}`).all({}))
  expect(rows.length).toBeGreaterThan(5)
  const spellings = [
    person.password,
    Buffer.from(person.password).toString('base64'),
    Buffer.from(person.password).toString('hex'),
  ]
  for (const spelling of spellings) expect(JSON.stringify(rows)).not.toContain(spelling)
  const said = tokenSealer(createKeyring([encryptionKey]), { kind: 'challenge', issuer: 'Acme' }, 1800).open(
    token,
    service.clock.now(),
  )
  expect(said).toEqual({
    id: expect.stringMatching(/^[\w-]{22}$/),
    userId: person.id,
    generation: 1,
    expiresAt: service.clock.now() + 1800,
    more: `${service.clock.now()} ${service.clock.now() + 120} pwd`,
  })
})

test('CVE-2024-8796 (devise-two-factor), yeojz/otplib #671, google-authenticator #556, FusionAuth/fusionauth-issues #3012: a secret has 160 bits, or as many as a longer hash, and is another one each time', async () => {
  for (const [algorithm, bytes] of [
    ['SHA1', 20],
    ['SHA256', 32],
    ['SHA512', 64],
  ] as const) {
    const options = { issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() }
    const totp = await createTotp({ ...options, totp: { algorithm } })
    const { secret, uri } = await totp.createTotpSetup({ id: '1', accountName: 'ann' })
    expect(decodeBase32(secret)).toHaveLength(bytes)
    expect(new URL(uri).searchParams.get('secret')).toBe(secret)
  }
  const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
  const enrolled: string[] = []
  for (let n = 0; n < 1000; n++) {
    enrolled.push((await totp.createTotpSetup({ id: '1', accountName: 'ann' })).secret)
  }
  for (const secrets of [enrolled, Array.from({ length: 1000 }, generateTotpSecret)]) {
    expect(decodeBase32(String(secrets[0]))).toHaveLength(20)
    expect(new Set(secrets).size).toBe(1000)
    // No bit of them stands still.
    const ones = Array<number>(160).fill(0)
    for (const secret of secrets) {
      decodeBase32(secret).forEach((byte, n) => {
        for (let bit = 0; bit < 8; bit++) ones[n * 8 + bit] = (ones[n * 8 + bit] ?? 0) + ((byte >> bit) & 1)
      })
    }
    expect(Math.min(...ones)).toBeGreaterThan(350)
    expect(Math.max(...ones)).toBeLessThan(650)
  }
})

test('CVE-2022-29185, GHSA-8vxv-2g8p-2249 (totp-rs): codes and seals are compared in constant time only, and no text that is secret with an operator', () => {
  const secretName = /^(code|typed|given|otp|secret|mac|hmac|signature|password|plaintext|token|access|refresh)$/i
  const found: string[] = []
  const timingSafe: string[] = []
  for (const file of filesUnder('src', '.ts').filter((name) => !/test|store-cases|testing/.test(name))) {
    const tree = ts.createSourceFile(file, readText(`src/${file}`), ts.ScriptTarget.ES2023, true)
    const nameOf = (node: ts.Node) =>
      ts.isIdentifier(node) ? node.text : ts.isPropertyAccessExpression(node) ? node.name.text : ''
    const isFixed = (node: ts.Node) =>
      ts.isStringLiteral(node) ||
      ts.isNumericLiteral(node) ||
      node.kind === ts.SyntaxKind.NullKeyword ||
      nameOf(node) === 'undefined'
    const visit = (node: ts.Node): void => {
      if (ts.isCallExpression(node) && nameOf(node.expression) === 'timingSafeEqual') timingSafe.push(file)
      const isComparison =
        ts.isBinaryExpression(node) &&
        /^[!=]==?$/.test(node.operatorToken.getText(tree)) &&
        !isFixed(node.left) &&
        !isFixed(node.right)
      if (isComparison && [node.left, node.right].some((side) => secretName.test(nameOf(side)))) {
        found.push(`${file}: ${node.getText(tree)}`)
      }
      ts.forEachChild(node, visit)
    }
    visit(tree)
  }
  expect(found).toEqual([])
  expect(timingSafe.sort()).toEqual(['crypto/fernet.ts', 'crypto/hs256.ts', 'flows/import.ts', 'otp/totp.ts'])
})

test('GHSA-m9h4-7j9c-55x9 (authentik), rustdesk-console #221, NexaSphere #3208: the secret is answered where an enrollment begins and nowhere else, and no code ever', async () => {
  const declared = Object.entries(endpoints).filter(([, { reply }]) =>
    /"(secret|uri|svg)"/.test(JSON.stringify(Object.keys((reply as { shape?: object } | null)?.shape ?? {}))),
  )
  expect(declared.map(([id]) => id)).toEqual(['createTotpSetup'])
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const seen = await exerciseAll(service)
  const secrets = (seen.createTotpSetup ?? []).flatMap(({ body }) =>
    typeof body.secret === 'string' ? [body.secret] : [],
  )
  expect(secrets.length).toBeGreaterThan(0)
  const others = Object.entries(seen).flatMap(([id, answers]) => (id === 'createTotpSetup' ? [] : answers))
  expect(others.length).toBeGreaterThan(30)
  const alice = await enroll(service, 'late')
  const { access } = await logInWithPhone(service, alice)
  for (const path of ['totp/status/', 'totp/backup_codes/', 'totp/trusted_devices/'])
    others.push(await service.get(path, access))
  const now = service.clock.now()
  const codes = [-1, 0, 1].map((steps) => alice.phone.codeAt(now + steps * STEP))
  for (const { text } of others) {
    for (const secret of secrets) expect(text).not.toContain(secret)
    expect(text).not.toMatch(/otpauth:|<svg/)
  }
  for (const { text } of others.slice(-3))
    for (const code of codes) expect(text).not.toMatch(new RegExp(`(?<!\\d)${code}(?!\\d)`))
})

test('node-2fa #38, google2fa #22 and #86, PHPGangsta/GoogleAuthenticator #72, RainLoop #1044, SMF #5000: the QR code is drawn here, names no other host, and the page of the demo may ask none', async () => {
  const service = await startService(FETCH)
  const { access } = await logIn(service, service.register('alice'))
  const { body } = await service.post('totp/create/', undefined, access)
  const drawn = String(body.svg).replace('xmlns="http://www.w3.org/2000/svg"', '')
  expect(drawn).toMatch(/^<svg /)
  expect(drawn).not.toMatch(/https?:|\/\/|href|url\(|<image|<script|<style/i)

  const demo = await startDemo()
  onTestFinished(() => demo.remove())
  const page = await fetch(demo.url)
  const policy = String(page.headers.get('content-security-policy'))
  expect(policy).toContain("default-src 'none'")
  expect(policy).not.toMatch(/https?:|\*|unsafe/)
  expect(page.headers.get('referrer-policy')).toBe('no-referrer')
  expect((await page.text()).replaceAll('http://www.w3.org/', '')).not.toMatch(/(src|href|action)="(https?:)?\/\//)
})

test('medplum/medplum #9997, rotp #42, QRCoder #391, better-auth (by running it): a key URI reads back as it was meant, with %20 for a space, the secret without padding, and no colon in a name', async () => {
  const names = [
    ['Ac me', 'ann@example.com'],
    ['A&B #1 50%', "o'hara+test@example.com (work)/?=&*!"],
    ['Ünïcode 字', 'übung@beispiel.example'],
  ] as const
  for (const [issuer, accountName] of names) {
    const totp = await createTotp({ issuer, encryptionKey: generateFernetKey(), store: memoryStore() })
    const { uri, secret } = await totp.createTotpSetup({ id: '1', accountName })
    expect(uri).not.toContain('+')
    expect(uri).not.toMatch(/undefined|null|[!'()* ]/)
    expect(secret).toMatch(/^[A-Z2-7]{32}$/)
    const url = new URL(uri)
    expect(decodeURIComponent(url.pathname.slice(1))).toBe(`${issuer}:${accountName}`)
    expect(url.searchParams.get('issuer')).toBe(issuer)
    const parsed = OTPAuth.URI.parse(uri)
    expect([parsed.issuer, parsed.label, parsed.secret.base32]).toEqual([issuer, accountName, secret])
    expect(authenticatorFor(uri)).toMatchObject({ issuer, accountName })
  }
  const options = { encryptionKey: generateFernetKey(), store: memoryStore() }
  await expect(createTotp({ ...options, issuer: 'Acme: shop' })).rejects.toThrow(TypeError)
  const totp = await createTotp({ ...options, issuer: 'Acme' })
  await expect(totp.createTotpSetup({ id: '1', accountName: 'a:b' })).rejects.toMatchObject({
    code: 'validation_failed',
  })
})

test('speakeasy, otpauth, otplib (by running them): a code is a text of six digits, what is near to one is refused, and nothing that is typed throws or becomes a 500', async () => {
  const service = await startService(FETCH, { tokens: { accessTokenSeconds: 86_400 } })
  const { person, phone, session } = await enroll(service)
  // A small number, so that other notations of the same number have six characters as well.
  service.clock.advance(3 * STEP)
  while (Number(phone.codeAt(service.clock.now())) > 0xffff) service.clock.advance(STEP)
  const code = phone.codeAt(service.clock.now())
  const digits = (zero: number) => [...code].map((n) => String.fromCodePoint(zero + Number(n))).join('')
  const near: unknown[] = [
    [code],
    Number(code),
    `${code}x`,
    `x${code}`,
    `${code}0`,
    `0${code}`,
    code.slice(0, 5),
    `${code.slice(0, 5)}x`,
    `+${code.slice(1)}`,
    `0x${code.slice(2)}`,
    `0x${Number(code).toString(16).padStart(4, '0')}`,
    `0X${Number(code).toString(16).toUpperCase().padStart(4, '0')}`,
    `${code.slice(1)}.`,
    `${code}.0`,
    `${code}e0`,
    digits(0x660),
    digits(0x966),
    `${code.slice(0, 3)}\u0000${code.slice(3)}`,
    '\ud800',
    '💥'.repeat(6),
    '9'.repeat(4000),
    { toString: code },
  ]
  for (const value of near) {
    const answer = await service.post('totp/verify/', { otp_code: value }, session.access)
    expect(answer.outcome, JSON.stringify(value)).toMatch(/^400 (invalid_code|validation_failed)$/)
    await service.totp.unlock(person.id)
    if (typeof value !== 'string') continue
    await expect(service.totp.verifyTotpCode(person.id, value)).rejects.toMatchObject({ code: 'invalid_code' })
    await service.totp.unlock(person.id)
  }
  // Full-width digits are digits to a keyboard of East Asia: one code, in one spelling.
  expect((await service.post('totp/verify/', { otp_code: digits(0xff10) }, session.access)).outcome).toBe('200')
})

test('keycloak/keycloak #26177: a change of the factors ends every session but the one that made it', async () => {
  const service = await startService(FETCH)
  const alice = await enroll(service)
  const isAlive = async (session: { refresh: string }) => {
    const { outcome } = await service.post('jwt/verify/', { token: session.refresh })
    return outcome === '200'
  }
  const [own, other] = [await logInWithPhone(service, alice), await logInWithPhone(service, alice)]
  const pending = await beginEnrollment(service, own.access)
  expect([await isAlive(own), await isAlive(other)], 'nothing has changed yet').toEqual([true, true])
  const input_code = pending.codeAt(service.clock.now())
  const confirmed = await service.post('totp/confirm/', { input_code }, own.access)
  expect(confirmed.outcome).toBe('200')
  const raised = sessionIn(confirmed.body)
  expect([await isAlive(raised), await isAlive(other), await isAlive(alice.session)]).toEqual([true, false, false])
  expect(await isAlive(own), 'the raised session has a new refresh token in the place of its own').toBe(false)

  const next = { ...alice, phone: pending }
  const [ending, third] = [await logInWithPhone(service, next), await logInWithPhone(service, next)]
  expect((await service.post('totp/disable/', undefined, ending.access)).outcome).toBe('204')
  expect([await isAlive(ending), await isAlive(third), await isAlive(raised)]).toEqual([true, false, false])
  expect((await service.post('jwt/refresh/', { refresh: third.refresh })).outcome).toBe('401 invalid_token')
  expect(sessionIn((await service.post('jwt/refresh/', { refresh: ending.refresh })).body)).toBeDefined()
})
