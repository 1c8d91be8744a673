import { createTotp, generateFernetKey, type TotpEvent } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { expect, test } from 'vitest'
import { TOTP_EVENTS } from '../src/events.ts'
import { guessingChance } from '../src/guessing.ts'
import type { PolicyOptions } from '../src/policy.ts'
import { resolvePolicy } from '../src/resolve-policy.ts'
import { enroll, nextCode, STEP } from './http/actors.ts'
import { exerciseAll } from './http/exercise-all.ts'
import { FETCH, startService } from './http/harness.ts'
import { tableOf } from './markdown.ts'

/** A user whose two codes in a row were seen, so many seconds since the second one left the screen. */
async function seen(seconds: number, { isFirstUsed = false } = {}) {
  const service = await startService(FETCH, { tokens: { accessTokenSeconds: 86_400 } })
  const { session, phone } = await enroll(service)
  service.clock.advance(600)
  const [first = '', second = ''] = [0, STEP].map((later) => phone.codeAt(service.clock.now() + later))
  const verify = async (otp_code: string) => (await service.post('totp/verify/', { otp_code }, session.access)).outcome
  if (isFirstUsed) expect(await verify(first)).toBe('200')
  service.clock.advance(2 * STEP + seconds)
  return { clock: service.clock, phone, first, second, verify }
}

test('two codes in a row that were seen are good for five minutes, as those of a slow phone, unless a later one was used', async () => {
  const early = await seen(5 * 60 - STEP - 1)
  expect(await early.verify(early.first)).toBe('400 invalid_code')
  early.clock.advance(STEP)
  expect(await early.verify(early.second), 'after 299 seconds').toBe('200')
  expect(await early.verify(early.second)).toBe('400 code_already_used')

  const usedOnce = await seen(2 * STEP, { isFirstUsed: true })
  expect(await usedOnce.verify(usedOnce.first)).toBe('400 invalid_code')
  expect(await usedOnce.verify(usedOnce.second), 'though the first was used').toBe('200')

  const late = await seen(5 * 60 - STEP)
  expect(await late.verify(late.first)).toBe('400 invalid_code')
  expect(await late.verify(late.second)).toBe('400 invalid_code')
  late.clock.advance(STEP)
  expect(await late.verify(late.second), 'after 300 seconds').toBe('400 invalid_code')

  const used = await seen(STEP)
  expect(await used.verify(used.phone.codeAt(used.clock.now()))).toBe('200')
  used.clock.advance(2 * STEP)
  expect(await used.verify(used.first)).toBe('400 invalid_code')
  expect(await used.verify(used.second)).toBe('400 code_already_used')
})

test('one code that was seen is good until 30 seconds after it left the screen', async () => {
  const inTime = await seen(STEP - 1)
  expect(await inTime.verify(inTime.second)).toBe('200')
  const late = await seen(STEP)
  for (let n = 0; n < 3; n++) expect(await late.verify(late.second)).toBe('400 invalid_code')
})

test('after a code that was typed late, one that was seen is good for a step longer', async () => {
  for (const [seconds, outcome] of [
    [2 * STEP - 1, '200'],
    [2 * STEP, '400 invalid_code'],
  ] as const) {
    const service = await startService(FETCH, { tokens: { accessTokenSeconds: 86_400 } })
    const { session, phone } = await enroll(service)
    const verify = async (otp_code: string) =>
      (await service.post('totp/verify/', { otp_code }, session.access)).outcome
    service.clock.advance(600)
    expect(await verify(phone.codeAt(service.clock.now() - STEP))).toBe('200')
    const code = phone.codeAt(service.clock.now())

    service.clock.advance(STEP + seconds)

    expect(await verify(code), `${seconds} s after it left the screen`).toBe(outcome)
  }
})

test("a secret or backup code that is copied from one user's rows to another's opens nothing, and the secret is announced", async () => {
  const connection = await openSqlite(':memory:')
  const store = await sqliteStore(connection)
  const service = await startService({ ...FETCH, store: async () => store })
  const [alice, bob] = [await enroll(service, 'alice'), await enroll(service, 'bob')]
  const unreadable: TotpEvent[] = []
  service.totp.on('secret.unreadable', (event) => void unreadable.push(event))
  const of = (userId: string) => `(SELECT sealed_secret FROM totp_authenticator WHERE user_id = '${userId}')`
  connection
    .prepare(`UPDATE totp_authenticator SET sealed_secret = ${of(bob.person.id)} WHERE user_id = '${alice.person.id}'`)
    .run({})
  const otp_code = nextCode(service, bob.phone)
  const answer = await service.post('totp/verify/', { otp_code }, alice.session.access)
  expect(answer.outcome).toBe('503 unavailable')
  expect(unreadable).toMatchObject([{ userId: alice.person.id }])
  expect((await service.post('totp/verify/', { otp_code }, bob.session.access)).outcome, "the row's owner").toBe('200')

  connection.prepare(`DELETE FROM totp_backup_code WHERE user_id = '${alice.person.id}'`).run({})
  connection.prepare(`UPDATE totp_backup_code SET user_id = '${alice.person.id}'`).run({})
  const backup = await service.post('totp/verify/', { backup_code: bob.backupCodes[0] }, alice.session.access)
  expect(backup.outcome, 'a digest names its owner').toBe('400 invalid_code')
})

test('a key of another deployment opens nothing, and the start says so', async () => {
  const store = memoryStore()
  await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store })
  const other = createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store })
  await expect(other).rejects.toThrow('encryptionKey does not match this store')
})

test('everything that happens to a second factor is announced, with whose it is and when', async () => {
  const service = await startService(FETCH, { maxAuthenticators: 2 })
  const heard = new Map<string, TotpEvent>()
  for (const type of TOTP_EVENTS) {
    service.totp.on(type, (event) => void heard.set(type, event))
  }
  await exerciseAll(service)
  // These need more than a walk through the endpoints, and have tests of their own.
  const rare = ['totp.failing', 'totp.locked', 'totp.unlocked', 'totp.resynchronized', 'enrollment.required']
  const others = [
    'totp.imported',
    'user.forgotten',
    'credentials.changed',
    'secret.unreadable',
    'mail.failed',
    'trusted_device.refused',
  ]
  const expected = TOTP_EVENTS.filter((type) => ![...rare, ...others].includes(type))
  expect([...heard.keys()].filter((type) => (expected as string[]).includes(type)).sort()).toEqual(expected.sort())
  for (const event of heard.values()) {
    expect(event).toMatchObject({ userId: expect.any(String), at: expect.any(Number) })
  }
  expect(heard.get('totp.verified')).toMatchObject({ method: expect.stringMatching(/^(totp|backup_code)$/) })
  expect(heard.get('totp.refused')).toMatchObject({ method: expect.any(String), code: expect.any(String) })
})

const guessed: Record<string, PolicyOptions> = {
  defaults: { issuer: 'Acme' },
  '`totp.window: 0`': { issuer: 'Acme', totp: { window: 0 } },
  '`maxAuthenticators: 2`': { issuer: 'Acme', maxAuthenticators: 2 },
  '`maxAuthenticators: 5`': { issuer: 'Acme', maxAuthenticators: 5 },
}

test('docs/threat-model.md states the chances of guessing as they are computed', () => {
  const columns = [
    'options',
    'right at once, of a million',
    'guesses, owner away',
    'chance',
    'guesses, owner daily',
    'chance then',
  ]
  const rows = tableOf('docs/threat-model.md', columns)
  expect(rows.map(({ options }) => options)).toEqual(Object.keys(guessed))
  for (const row of rows) {
    const [, right, away, awayChance, daily, dailyChance] = columns.map((column) => row[column])
    const policy = guessed[String(row.options)]
    if (policy === undefined) throw new Error('no such row')
    const { perGuess, ownerAway, ownerDaily } = guessingChance(resolvePolicy(policy))
    const percent = (text = '') => Number(text.replace(' %', '')) / 100
    expect(Number(right) / 1e6).toBeCloseTo(perGuess, 12)
    expect([Number(away), Number(daily)]).toEqual([ownerAway.guesses, ownerDaily.guesses])
    // Two digits are stated.
    expect(Math.abs(percent(awayChance) / ownerAway.chance - 1)).toBeLessThan(0.01)
    expect(Math.abs(percent(dailyChance) / ownerDaily.chance - 1)).toBeLessThan(0.01)
  }
})
