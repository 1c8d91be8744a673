import assert from 'node:assert/strict'
import {
  activate,
  attempt,
  byStep,
  challengeOf,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
  recordOf,
  refusedUntil,
  totalOf,
} from '../store-fixtures.ts'

/** What comes of an attempt: what it is judged by, or why it is not judged. */
export const outcomes: Promises = {
  async 'hands out what the code is judged by: the live authenticator, and the user'(open) {
    const store = await open()
    const { authenticatorId } = await enroll(store)
    await store.putPending('ann', pending('another'), 1, limits)

    const factors = await store.readFactors(attempt())

    assert.deepEqual(factors, {
      outcome: 'open',
      user: { generation: 1, changedAt: noon + 1, confirmedAt: noon },
      authenticators: [recordOf(pending(authenticatorId), { lastUsedAt: noon })],
    })
  },

  async 'hands out the pending authenticator to the first code of an enrollment'(open) {
    const store = await open()
    await enroll(store)
    await store.putPending('ann', pending('another'), 1, limits)

    const factors = await store.readFactors(attempt({ against: 'pending' }))

    assert.deepEqual(factors, {
      outcome: 'open',
      user: { generation: 1, changedAt: noon + 1, confirmedAt: noon },
      authenticators: [recordOf(pending('another'))],
    })
  },

  async 'nothing is counted when the outcome is `delayed`'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 5)

    for (let n = 0; n < 20; n++) assert.equal(await refusedUntil(store, { now: noon + 29 }), noon + 30)

    await fail(store, { now: noon + 30 })
    assert.equal(await refusedUntil(store, { now: noon + 30 }), noon + 90)
  },

  async 'nothing is counted when the outcome is `locked`'(open) {
    const store = await open()
    const user = await enroll(store)
    const capped = { ...totalOf(5), lockAfter: 3 }
    await fail(store, { limits: capped }, 3)
    for (let n = 0; n < 20; n++) assert.equal(await refusedUntil(store, { limits: capped }), 'locked')

    await store.removeFactors({ limits, ...user, token: null, keepFamilyId: null, now: noon })
    await enroll(store)

    await fail(store, { limits: capped }, 2)
  },

  async 'nothing is counted when the outcome is `stale`'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user, 'old', { generation: user.generation - 1 })

    for (let n = 0; n < 20; n++) assert.equal(await refusedUntil(store, { token: challenge }), 'stale')

    await fail(store, {}, 5)
  },

  async 'nothing is counted when the outcome is `absent`'(open) {
    const store = await open()
    for (let n = 0; n < 20; n++) assert.equal(await refusedUntil(store), 'absent')
    for (let n = 0; n < 20; n++) assert.equal(await refusedUntil(store, { against: 'pending' }), 'absent')

    await store.putPending('ann', pending('phone'), 0, limits)

    await fail(store, { against: 'pending' }, 5)
  },

  async 'stale: the challenge was burnt'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.settleAttempt(byStep(user, firstStep + 1, { token: challengeOf(user) }))

    assert.equal(await refusedUntil(await open(), { token: challengeOf(user) }), 'stale')
    await fail(store, { token: challengeOf(user, 'another challenge') })
  },

  async "stale: the user's generation moved on"(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, { token: challengeOf(user) })

    await store.raiseGeneration('ann', noon)

    assert.equal(await refusedUntil(store, { token: challengeOf(user) }), 'stale')
  },

  async 'stale: the challenge has expired, so that its burnt mark can be forgotten'(open) {
    const store = await open()
    const challenge = challengeOf(await enroll(store))

    await fail(store, { token: challenge, now: challenge.expiresAt })

    assert.equal(await refusedUntil(store, { token: challenge, now: challenge.expiresAt + 1 }), 'stale')
  },

  async 'absent: a pending authenticator is not a live one, nor the other way round'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)
    assert.equal(await refusedUntil(store, { against: 'live' }), 'absent')

    await activate(store, { authenticatorId: 'phone', generation: 0 })

    assert.equal(await refusedUntil(store, { against: 'pending' }), 'absent')
  },

  async 'absent: a pending authenticator that has expired'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone', { expiresAt: noon + 900 }), 0, limits)

    await fail(store, { against: 'pending', now: noon + 899 })
    assert.equal(await refusedUntil(store, { against: 'pending', now: noon + 900 }), 'absent')
  },
}
