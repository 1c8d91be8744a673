import assert from 'node:assert/strict'
import {
  attempt,
  byStep,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  type Promises,
  refusedUntil,
  totalOf,
} from '../store-fixtures.ts'

/** Of `settleAttempt`: what counts for nothing, and a failure that is taken back. */
export const settleCounted: Promises = {
  async 'a right code that was spent before is no guess: nothing is counted'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 4)

    for (let n = 0; n < 20; n++) {
      const { outcome } = await store.settleAttempt(byStep(user, firstStep, { limits }))
      assert.equal(outcome, 'spent_before')
    }

    const { consecutive, attemptsLeft } = await store.getFailureBudget('ann', 'totp', noon, limits)
    assert.deepEqual([consecutive, attemptsLeft], [4, 1])
  },

  async 'a right code, spent before or not, is not admitted while the user has to wait'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 5)

    for (const step of [firstStep, firstStep + 1]) {
      const settled = await store.settleAttempt(byStep(user, step, { limits }))
      assert.deepEqual(settled, { outcome: 'delayed', retryAt: noon + 30 })
    }

    const settled = await store.settleAttempt(byStep(user, firstStep + 1, { limits, now: noon + 30 }))
    assert.equal(settled.outcome, 'spent', 'and the step was not spent by it')
  },

  async 'a success that was counted as a failure before takes that failure back, and its delay'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 5)

    const settled = await store.settleAttempt(byStep(user, firstStep + 1, { limits, isCounted: true }))

    assert.equal(settled.outcome, 'spent')
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, totalOf(5))).attemptsLeft, 1, 'four in the period')
    await fail(store, {}, 5)
    assert.equal(await refusedUntil(store), noon + 30)
  },

  async 'what was counted before and is spent by now leaves the failure counted'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 5)

    const settled = await store.settleAttempt(byStep(user, firstStep, { limits, isCounted: true }))

    assert.notEqual(settled.outcome, 'spent')
    assert.equal(await refusedUntil(store), noon + 30)
    assert.deepEqual(await store.readFactors(attempt()), { outcome: 'delayed', retryAt: noon + 30 })
  },
}
