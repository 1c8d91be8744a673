import assert from 'node:assert/strict'
import {
  activate,
  begin,
  byStep,
  challengeOf,
  device,
  devicesOf,
  enroll,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
  race,
} from '../store-fixtures.ts'

const call = { keyDigest: 'who and what', windowSeconds: 60, now: noon }

export const countCall: Promises = {
  async 'no call is lost of any number at once'(open) {
    const counts = await race(open, (store) => store.countCall(call))

    const calls = counts.map((count) => count.calls).sort((a, b) => a - b)
    assert.deepEqual(
      calls,
      Array.from({ length: 50 }, (_, n) => n + 1),
    )
  },

  async 'a window ends when it said it would, and then begins anew; keys are counted apart'(open) {
    const store = await open()

    assert.deepEqual(await store.countCall(call), { calls: 1, endsAt: noon + 60 })
    assert.deepEqual(await store.countCall({ ...call, now: noon + 59 }), { calls: 2, endsAt: noon + 60 })
    assert.deepEqual(await store.countCall({ ...call, keyDigest: 'another' }), { calls: 1, endsAt: noon + 60 })
    assert.deepEqual(await store.countCall({ ...call, now: noon + 60 }), { calls: 1, endsAt: noon + 120 })
  },

  async 'a clock that is set back keeps no window open for longer than windows are'(open) {
    const store = await open()
    await store.countCall(call)

    assert.deepEqual(await store.countCall({ ...call, now: noon - 3600 }), { calls: 1, endsAt: noon - 3540 })
    assert.deepEqual(await store.countCall({ ...call, now: noon - 3600 }), { calls: 2, endsAt: noon - 3540 })
  },
}

export const deleteExpired: Promises = {
  async 'what is alive stays'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user, 'challenge', { expiresAt: noon + 120 })
    await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge }))
    await begin(store, 'family', { generation: user.generation })
    await store.keepTrustedDevice(device('device'), user.generation)
    await store.putPending('ann', pending('new'), user.generation, limits)
    await store.countCall(call)

    await store.deleteExpired(noon + 1)

    assert.equal(await store.isTokenUnused('challenge'), false)
    assert.equal(await store.isFamilyAlive('family', null, noon + 1), true)
    assert.equal((await store.countCall({ ...call, now: noon + 1 })).calls, 2)
    assert.equal((await store.getStatus('ann', noon + 1, limits)).pendingUntil, noon + 15 * 60)
    assert.deepEqual(await devicesOf(store, 'ann', noon + 1), ['device'])
    assert.equal(await activate(store, { authenticatorId: 'new', generation: user.generation }), 'replaced')
  },
}
