import assert from 'node:assert/strict'
import { type Caller, createTotp, generateFernetKey, type Proof, type TotpEvent } from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, test } from 'vitest'

const NOON = 1_800_000_000
const MAX_AGE = 300

/** A host with sessions of its own, which tells of each what it likes; Ann's second factor was switched on at noon. */
async function host() {
  const clock = fakeClock(NOON)
  const proofs: Proof[] = []
  const refused: TotpEvent[] = []
  let session: Partial<Caller> = {}
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    clock: clock.now,
    rateLimit: 'off',
    stepUp: { maxAgeSeconds: MAX_AGE },
  })
  totp.on('step_up.refused', (event) => void refused.push(event))
  const phone = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
  const backupCodes = (await totp.confirmTotpSetup('ann', phone.codeAt(NOON))).backupCodes ?? []
  const options = {
    caller: () => ({ id: 'ann', accountName: 'ann', ...session }),
    onVerified: (proof: Proof) => void proofs.push(proof),
    clientAddress: () => '127.0.0.1',
  }
  const endpoints = fetchTotp(totp, options)
  const guard = endpoints.require({ maxAgeSeconds: MAX_AGE }, () => new Response('gold'))
  const call = async (method: string, path: string, told: Partial<Caller>, body?: object) => {
    session = told
    const json = { method, headers: { 'content-type': 'application/json' } }
    const init = body === undefined ? { method } : { ...json, body: JSON.stringify(body) }
    const handler = path === '/vault' ? guard : endpoints
    return handler(new Request(`http://service.test${path}`, init))
  }
  return { totp, clock, phone, backupCodes, proofs, refused, call }
}

describe('how the session began, and what the second factor adds to it (RFC 8176)', () => {
  test.each([
    { told: undefined, otp: ['pwd', 'otp', 'mfa'], backup: ['pwd', 'mfa'] },
    { told: ['hwk'], otp: ['hwk', 'otp', 'mfa'], backup: ['hwk', 'mfa'] },
    { told: ['fed', 'pwd'], otp: ['fed', 'pwd', 'otp', 'mfa'], backup: ['fed', 'pwd', 'mfa'] },
    { told: ['pwd', 'otp', 'mfa'], otp: ['pwd', 'otp', 'mfa'], backup: ['pwd', 'mfa'] },
  ])('$told', async ({ told, otp, backup }) => {
    const { call, clock, phone, backupCodes, proofs } = await host()
    const session = told === undefined ? {} : { amr: told }
    clock.advance(30)

    await call('POST', '/api/totp/verify/', session, { otp_code: phone.codeAt(clock.now()) })
    await call('POST', '/api/totp/verify/', session, { backup_code: backupCodes[0] })

    assert.deepEqual(
      proofs.map(({ amr }) => [...amr]),
      [otp, backup],
    )
  })
})

describe('when the session last proved a second factor', () => {
  const now = NOON + 1000
  const cases = [
    { name: 'never', told: {}, passes: false },
    { name: 'never, says null', told: { verifiedAt: null }, passes: false },
    { name: 'just now', told: { verifiedAt: now }, passes: true },
    { name: `${MAX_AGE} s ago`, told: { verifiedAt: now - MAX_AGE }, passes: true },
    { name: `${MAX_AGE + 1} s ago`, told: { verifiedAt: now - MAX_AGE - 1 }, passes: false },
    { name: 'in the future', told: { verifiedAt: now + 1 }, passes: false },
    { name: 'NaN', told: { verifiedAt: Number.NaN }, passes: false },
  ]

  test.each(cases)('$name', async ({ told, passes }) => {
    const { clock, call, refused } = await host()
    clock.advance(1000)

    const [vault, codes] = [await call('GET', '/vault', told), await call('GET', '/api/totp/backup_codes/', told)]

    assert.deepEqual([vault.status, codes.status], passes ? [200, 200] : [401, 401])
    const refusal = { type: 'step_up.refused', userId: 'ann', at: now }
    assert.deepEqual(refused, passes ? [] : [refusal, refusal])
  })

  test('before the factors changed, be it in the same second, is too early; after it is not', async () => {
    const { totp, clock, phone, backupCodes, call } = await host()
    clock.advance(1000)
    const before = await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))
    await totp.credentialsChanged('ann')
    const between = await totp.verifyBackupCode('ann', backupCodes[0] ?? '')
    await totp.credentialsChanged('ann')
    const after = await totp.verifyBackupCode('ann', backupCodes[1] ?? '')

    for (const seconds of [0, 10]) {
      clock.advance(seconds)
      for (const path of ['/vault', '/api/totp/backup_codes/']) {
        for (const { verifiedAt } of [before, between]) {
          assert.equal((await call('GET', path, { verifiedAt })).status, 401)
        }
        assert.equal((await call('GET', path, { verifiedAt: after.verifiedAt })).status, 200)
      }
    }
  })

  test('counts with the generation of the proof, where the host tells it, whatever the clocks say', async () => {
    const { totp, clock, phone, backupCodes, call } = await host()
    clock.advance(1000)
    const before = await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))
    clock.advance(-100)
    await totp.credentialsChanged('ann')
    const after = await totp.verifyBackupCode('ann', backupCodes[0] ?? '')
    clock.advance(150)

    for (const path of ['/vault', '/api/totp/backup_codes/']) {
      const statusOf = async (told: Partial<Caller>) => (await call('GET', path, told)).status
      assert.equal(await statusOf(before), 401, 'though it looks later than the change')
      assert.equal(await statusOf(after), 200)
      assert.equal(await statusOf({ ...after, verifiedAt: now - 500 }), 401, 'its age counts as ever')
      assert.equal(await statusOf({ ...after, verifiedAt: clock.now() + 1 }), 401)
      assert.equal(await statusOf({ ...after, generation: Number.NaN }), 401)
      assert.equal(await statusOf({ ...after, verifiedAt: now - 120 }), 200, 'a session that the change kept')
    }
  })

  test('counts for nothing at the guard once the second factor is off', async () => {
    const { totp, clock, call } = await host()
    clock.advance(1000)
    await totp.disableTotp('ann')

    const refused = await call('GET', '/vault', { verifiedAt: now })
    assert.deepEqual([refused.status, (await refused.json()).code], [403, 'second_factor_required'])
  })
})
