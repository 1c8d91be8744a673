import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createTotp, generateFernetKey, type TotpEvent, type TotpOptions } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, test } from 'vitest'
import { encodeBase32 } from '../src/otp/base32.ts'
import django from './vectors/django-totp.json' with { type: 'json' }

const NOON = 1_800_000_000

async function host(options: Partial<TotpOptions<unknown>> = {}) {
  const clock = fakeClock(NOON)
  const store = options.store ?? memoryStore()
  const usual = { issuer: 'Acme', encryptionKey: generateFernetKey(), clock: clock.now }
  const totp = await createTotp({ ...usual, ...options, store })
  const events: TotpEvent[] = []
  for (const type of ['totp.imported', 'totp.confirmed', 'backup_codes.rotated'] as const) {
    totp.on(type, (event) => void events.push(event))
  }
  const phoneOf = (secret: string, path = '') => authenticatorFor(`otpauth://totp/Acme:ann?secret=${secret}${path}`)
  return { totp, store, clock, events, phoneOf }
}

/** As hand-written columns, speakeasy, otplib and key URIs have it. */
const spellings: ((base32: string) => string | Uint8Array)[] = [
  (base32) => base32,
  (base32) => base32.toLowerCase(),
  (base32) => base32.replace(/(.{4})(?=.)/g, '$1 '),
  (base32) => base32.toLowerCase().replace(/(.{4})(?=.)/g, '$1-'),
  (base32) => base32.padEnd(Math.ceil(base32.length / 8) * 8, '='),
]

test('10,000 authenticators in every common spelling log in, and a second import changes nothing', async () => {
  const { totp, store, clock, phoneOf } = await host({ store: await sqliteStore(':memory:') })
  const users = Array.from({ length: 10_000 }, (_, n) => {
    const bytes = randomBytes([10, 16, 20, 32][n % 4] as number)
    const spelling = spellings[n % spellings.length] as (typeof spellings)[number]
    const base32 = encodeBase32(bytes)
    return { id: `user ${n}`, base32, secret: n % 7 === 0 ? new Uint8Array(bytes) : spelling(base32) }
  })

  for (const { id, secret } of users) {
    assert.equal(await totp.importAuthenticator(id, { secret, backupCodes: ['4RNjeRSRCYF2pZL7'] }), 'imported')
  }
  for (const { id, base32 } of users) {
    const { method } = await totp.verifyTotpCode(id, phoneOf(base32).codeAt(clock.now()))
    assert.equal(method, 'totp')
  }
  for (const [n, { id, secret }] of users.entries()) {
    const before = n % 100 === 0 ? await store.getStatus(id, NOON, LIMITS) : null
    assert.equal(await totp.importAuthenticator(id, { secret, backupCodes: ['another code'] }), 'unchanged')
    if (before) assert.deepEqual(await store.getStatus(id, NOON, LIMITS), before)
  }
  const { id, base32 } = users[17] as (typeof users)[number]
  await assert.rejects(totp.verifyTotpCode(id, phoneOf(base32).codeAt(clock.now())), { code: 'code_already_used' })
  assert.equal((await totp.verifyBackupCode(id, '4rnjersrcyf2pzl7')).backupCodesRemaining, 0)
  await totp.close()
}, 120_000)

const LIMITS = {
  delayAfter: 5,
  firstDelaySeconds: 30,
  maxDelaySeconds: 900,
  lockAfter: 100,
  maxPerPeriod: 300,
  periodDays: 30,
}

const SECRET = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'

describe('what cannot be imported', () => {
  const wrong: Record<string, [unknown, typeof RangeError | typeof TypeError, RegExp]> = {
    'a secret with a letter outside base32': [{ secret: `${SECRET.slice(1)}1` }, RangeError, /only the characters A-Z/],
    'a secret that was cut off': [{ secret: SECRET.slice(1) }, RangeError, /truncated/],
    'a secret of 9 bytes': [{ secret: new Uint8Array(9) }, RangeError, /10 to 64 bytes; it has 9/],
    'a secret of 65 bytes': [{ secret: new Uint8Array(65) }, RangeError, /10 to 64 bytes; it has 65/],
    'an empty secret': [{ secret: '' }, RangeError, /it has 0/],
    'no secret': [{}, TypeError, /secret must be a base32 string/],
    '5 digits': [{ secret: SECRET, digits: 5 }, RangeError, /digits/],
    'a period of 10 seconds': [{ secret: SECRET, periodSeconds: 10 }, RangeError, /periodSeconds/],
    MD5: [{ secret: SECRET, algorithm: 'MD5' }, TypeError, /algorithm/],
    'a last step in seconds': [{ secret: SECRET, lastUsedStep: NOON }, RangeError, /lastUsedStep/],
    'a confirmation in milliseconds': [{ secret: SECRET, confirmedAt: NOON * 1000 }, RangeError, /confirmedAt/],
    'a backup code of 7 characters': [{ secret: SECRET, backupCodes: ['abcdefg'] }, RangeError, /at least 8/],
    'a backup code that could be a code of the app': [
      { secret: SECRET, backupCodes: ['12345678'] },
      RangeError,
      /at least 8/,
    ],
    'the same backup code twice': [{ secret: SECRET, backupCodes: ['abcdefgh', 'ABCD-EFGH'] }, RangeError, /different/],
    'a digest': [{ secret: SECRET, backupCodes: [{ sha256: 'ab'.repeat(32) }] }, TypeError, /digest/],
    'a name with a control character': [{ secret: SECRET, name: 'a\nb' }, TypeError, /name/],
  }
  test.each(Object.entries(wrong))(
    '%s: it is said why, without the secret, and nothing is written',
    async (_, given) => {
      const { totp, store, events } = await host()
      const [brought, kind, reason] = given

      await assert.rejects(totp.importAuthenticator('ann', brought as { secret: string }), (error: Error) => {
        assert.ok(error instanceof kind)
        assert.match(error.message, reason)
        assert.equal(error.message.includes(SECRET.slice(4, 20)), false)
        return true
      })

      assert.deepEqual(await store.getUser('ann'), { generation: 0, changedAt: 0, confirmedAt: null })
      assert.deepEqual(events, [])
    },
  )

  test('more backup codes than 50', async () => {
    const { totp } = await host()
    const backupCodes = Array.from({ length: 51 }, (_, n) => `abcdefgh ${n}`)

    await assert.rejects(totp.importAuthenticator('ann', { secret: SECRET, backupCodes }), /at most 50/)
  })
})

test('an imported authenticator keeps its parameters, its name, its last step and the day of its confirmation', async () => {
  const { totp, store, clock, phoneOf, events } = await host()
  const parameters = { digits: 8, periodSeconds: 60, algorithm: 'SHA256' } as const
  const phone = phoneOf(SECRET, '&digits=8&period=60&algorithm=SHA256')
  const lastUsedStep = Math.floor(NOON / 60)

  await totp.importAuthenticator('ann', {
    secret: SECRET,
    ...parameters,
    name: 'Phone',
    lastUsedStep,
    confirmedAt: NOON - 999,
  })

  const { user, authenticators } = await store.getStatus('ann', NOON, LIMITS)
  assert.deepEqual(
    [user.confirmedAt, authenticators[0]?.name, authenticators[0]?.parameters],
    [NOON - 999, 'Phone', parameters],
  )
  assert.equal(events[0]?.type, 'totp.imported')
  await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now())), { code: 'code_already_used' })
  clock.advance(60)
  assert.equal((await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))).method, 'totp')
})

test('of many imports of one secret at once one is made, and the others change nothing', async () => {
  const { totp, events } = await host()

  const outcomes = await Promise.all(
    Array.from({ length: 20 }, () => totp.importAuthenticator('ann', { secret: SECRET.toLowerCase() })),
  )

  assert.deepEqual(outcomes.sort(), ['imported', ...Array(19).fill('unchanged')])
  assert.equal(events.length, 1)
})

test('a user who has another authenticator keeps it, and gets a second one only where two are allowed', async () => {
  const another = 'KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU'
  for (const maxAuthenticators of [1, 2]) {
    const { totp, phoneOf, clock } = await host({ maxAuthenticators })
    await totp.importAuthenticator('ann', { secret: another })

    if (maxAuthenticators === 1) {
      await assert.rejects(totp.importAuthenticator('ann', { secret: SECRET }), { code: 'totp_already_enabled' })
    } else {
      assert.equal(await totp.importAuthenticator('ann', { secret: SECRET }), 'imported')
      assert.equal((await totp.verifyTotpCode('ann', phoneOf(SECRET).codeAt(clock.now()))).method, 'totp')
    }

    assert.equal((await totp.verifyTotpCode('ann', phoneOf(another).codeAt(clock.now()))).method, 'totp')
  }
})

test('users of django-totp move in with what its tables hold, under the same encryption key', async () => {
  const { totp, clock, phoneOf } = await host({ encryptionKey: django.encryption_key })

  for (const { user_id, secret_key, created_at, backup_codes, plain } of django.rows) {
    const unused = backup_codes.filter(({ is_used }) => !is_used).map(({ code }) => totp.decrypt(code))
    const outcome = await totp.importAuthenticator(String(user_id), {
      secret: totp.decrypt(secret_key),
      backupCodes: unused,
      confirmedAt: Math.floor(Date.parse(`${created_at}Z`.replace(' ', 'T')) / 1000),
    })
    assert.equal(outcome, 'imported')

    assert.deepEqual(unused, plain.unused)
    const code = phoneOf(plain.secret).codeAt(clock.now())
    assert.equal((await totp.verifyTotpCode(String(user_id), code)).userId, String(user_id))
    const remaining = (await totp.verifyBackupCode(String(user_id), plain.unused[0] as string)).backupCodesRemaining
    assert.equal(remaining, plain.unused.length - 1)
  }
})
