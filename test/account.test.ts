import assert from 'node:assert/strict'
import { createTotp, generateFernetKey } from 'totp-kit'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { test } from 'vitest'

const NOON = 1_800_000_000

async function host() {
  const clock = fakeClock(NOON)
  const store = await sqliteStore(':memory:')
  const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store, clock: clock.now })
  const enroll = async (id: string) => {
    const { uri } = await totp.createTotpSetup({ id, accountName: id })
    const phone = authenticatorFor(uri)
    await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
    return phone
  }
  return { totp, store, clock, enroll }
}

test('a forgotten user is unknown, and what was handed out before is good for nobody who has that id later', async () => {
  const { totp, clock, enroll } = await host()
  await enroll('ann')
  const start = await totp.startLogin('ann')
  const before = 'challengeToken' in start ? start.challengeToken : ''

  await totp.forgetUser('ann')

  assert.equal(await totp.isTotpEnabled('ann'), false)
  await assert.rejects(totp.verifyTotpCode('ann', '000000'), { code: 'totp_not_set_up' })
  await totp.forgetUser('ann')
  const phone = await enroll('ann')
  clock.advance(30)
  const answer = totp.answerChallenge(before, { method: 'totp', code: phone.codeAt(clock.now()) })
  await assert.rejects(answer, { code: 'challenge_invalid' })
})

test('the statuses of more users than one read takes are those of each user', async () => {
  const { totp, enroll } = await host()
  for (const id of ['user 0', 'user 499', 'user 500', 'user 1200']) await enroll(id)
  const ids = Array.from({ length: 1201 }, (_, n) => `user ${n}`)

  const statuses = await totp.getStatuses([...ids, 'user 0'])

  assert.deepEqual([...statuses.keys()], ids)
  const on = ids.filter((id) => statuses.get(id)?.authenticators.length === 1)
  assert.deepEqual(on, ['user 0', 'user 499', 'user 500', 'user 1200'])
  assert.deepEqual(statuses.get('user 500'), await totp.getStatus('user 500'))
})

test('deleteExpired takes an enrollment away that was never confirmed', async () => {
  const { totp, store, clock } = await host()
  await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })
  clock.advance(3600)

  await totp.deleteExpired()

  assert.equal((await store.getStatus('ann', NOON, LIMITS)).pendingUntil, null)
})

const LIMITS = {
  delayAfter: 5,
  firstDelaySeconds: 30,
  maxDelaySeconds: 900,
  lockAfter: 100,
  maxPerPeriod: 300,
  periodDays: 30,
}
