import assert from 'node:assert/strict'
import {
  attempt,
  enroll,
  limits,
  noon,
  type Promises,
  race,
  refusedUntil,
  reserve,
  totalOf,
} from '../store-fixtures.ts'

const returned = { userId: 'ann', method: 'totp' } as const

/** An attempt that was no guess is taken back. */
export const returnAttempt: Promises = {
  async 'one failure fewer in a row and in the period'(open) {
    const store = await open()
    await enroll(store)
    await reserve(store, {}, 3)

    await store.returnAttempt({ ...returned, consecutive: 3 })

    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 2)
    const counted = await store.getFailureBudget('ann', 'totp', noon, totalOf(3))
    assert.equal(counted.attemptsLeft, 1, 'two of three in the total')
  },

  async 'the delay that the attempt set goes too'(open) {
    const store = await open()
    await enroll(store)
    await reserve(store, {}, 5)
    assert.equal(await refusedUntil(store), noon + 30)

    await store.returnAttempt({ ...returned, consecutive: 5 })

    await reserve(store)
    assert.equal(await refusedUntil(store), noon + 30)
  },

  async 'the delay stays where another attempt was counted after it'(open) {
    const store = await open()
    await enroll(store)
    await reserve(store, {}, 5)

    await store.returnAttempt({ ...returned, consecutive: 4 })

    assert.equal(await refusedUntil(store), noon + 30)
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 4)
  },

  async 'each of any number at once is taken back, and no count falls below none'(open) {
    const store = await open()
    await enroll(store)
    const many = totalOf(1000)

    await race(open, async (other) => {
      const reservation = await other.reserveAttempt(attempt({ limits: many }))
      assert.equal(reservation.outcome, 'reserved')
      if (reservation.outcome !== 'reserved') return
      await other.returnAttempt({ ...returned, consecutive: reservation.consecutive })
    })
    await store.returnAttempt({ ...returned, consecutive: 0 })
    await store.returnAttempt({ ...returned, userId: 'nobody', consecutive: 1 })

    const budget = await store.getFailureBudget('ann', 'totp', noon, totalOf(7))
    assert.deepEqual([budget.consecutive, budget.attemptsLeft], [0, 7])
  },

  async 'each kind of code has a count of its own'(open) {
    const store = await open()
    await enroll(store)
    await reserve(store, { method: 'backup_code' })
    await reserve(store)

    await store.returnAttempt({ ...returned, consecutive: 1 })

    assert.equal((await store.getFailureBudget('ann', 'backup_code', noon, limits)).consecutive, 1)
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 0)
  },
}
