import assert from 'node:assert/strict'
import type { Settlement, TotpStore } from '../../store/store.ts'
import {
  byCode,
  byStep,
  DAY,
  type Enrolled,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
  periodStart,
  race,
  refusedUntil,
  tally,
  totalOf,
  wrong,
} from '../store-fixtures.ts'

const MONTH = 30 * DAY

/** How many attempts are admitted. */
export const budget: Promises = {
  async 'of any number of attempts at once, no more are admitted than the limits allow'(open) {
    await enroll(await open())

    const outcomes = await race(open, (store) => store.settleAttempt(wrong()))

    assert.deepEqual(tally(outcomes), { wrong: 5, delayed: 45 })
  },

  async 'of any number of first codes of an enrollment at once, no more are admitted than the limits allow'(open) {
    await (await open()).putPending('ann', pending('phone'), 0, limits)

    const outcomes = await race(open, (store) => store.settleAttempt(wrong({ against: 'pending' })))

    assert.deepEqual(tally(outcomes), { wrong: 5, delayed: 45 })
  },

  async 'each attempt is told its own number in the row, whatever comes at once'(open) {
    const user = await enroll(await open())

    const outcomes = await race(open, (store) => store.settleAttempt(wrong()))

    const numbers = outcomes.map((settled) => settled.outcome === 'wrong' && settled.budget.consecutive)
    assert.deepEqual(numbers.filter(Boolean).sort(), [1, 2, 3, 4, 5])
    const store = await open()
    await store.settleAttempt(byStep(user, firstStep + 1, { limits, now: noon + 30 }))
    const next = await store.settleAttempt(wrong({ now: noon + 30 }))
    assert.equal(next.outcome === 'wrong' && next.budget.consecutive, 1)
  },

  async 'when a delay is over, exactly one of any number of attempts at once is admitted'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 5)

    const outcomes = await race(open, (other) => other.settleAttempt(wrong({ now: noon + 30 })))

    assert.deepEqual(tally(outcomes), { wrong: 1, delayed: 49 })
  },

  async 'a failure counts for every connection'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 5)

    assert.equal(await refusedUntil(await open()), noon + 30)
  },

  async 'the n-th failure after `delayAfter` delays by `firstDelaySeconds` × 2^n, at most `maxDelaySeconds`'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 5)
    let now = noon

    for (const delay of [30, 60, 120, 240, 480, ...Array<number>(89).fill(900)]) {
      assert.equal(await refusedUntil(store, { now }), now + delay)
      assert.equal(await refusedUntil(store, { now: now + delay - 1 }), now + delay)
      now += delay
      await fail(store, { now })
    }
  },

  async 'at `lockAfter` consecutive failures the outcome is `locked`, and time does not help'(open) {
    const store = await open()
    await enroll(store)
    let now = noon
    for (let failures = 0; failures < 100; failures++) {
      await fail(store, { now })
      now += 900
    }

    assert.equal(await refusedUntil(store, { now }), 'locked')
    assert.equal(await refusedUntil(store, { now: now + 3650 * DAY }), 'locked')
  },

  async 'of any number of attempts at once, no more are admitted than are left to `lockAfter`'(open) {
    const store = await open()
    const withoutDelay = { ...limits, firstDelaySeconds: 0 }
    await enroll(store)
    await fail(store, { limits: withoutDelay }, 93)

    const outcomes = await race(open, (other) => other.settleAttempt(wrong({ limits: withoutDelay })))

    assert.deepEqual(tally(outcomes), { wrong: 7, locked: 43 })
  },

  async 'a success costs nothing and clears the consecutive failures'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 4)

    await succeed(store, user, firstStep + 1)

    await fail(store, {}, 5)
    assert.equal(await refusedUntil(store), noon + 30)
  },

  async 'a success in place of the failure that would have begun a delay begins none'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 4)

    await succeed(store, user, firstStep + 1)

    await fail(store, { now: noon + 1 })
  },

  async 'successes never use up the total'(open) {
    const store = await open()
    const user = await enroll(store)

    for (let n = 1; n <= 10; n++) await succeed(store, user, firstStep + n, { limits: totalOf(3) })

    await fail(store, { limits: totalOf(3) }, 3)
    assert.notEqual(await refusedUntil(store, { limits: totalOf(3) }), 'wrong')
  },

  async 'at most 300 attempts fail, successes in between or not'(open) {
    const store = await open()
    const user = await enroll(store)

    for (let login = 1; login <= 74; login++) {
      const now = noon + login * 3600
      await fail(store, { now }, 4)
      await succeed(store, user, firstStep + login, { now })
    }
    await fail(store, { now: noon + 3 * DAY + 12 * 3600 }, 4)

    const now = noon + 4 * DAY
    const retryAt = await refusedUntil(store, { now })
    assert.ok(Number(retryAt) >= noon + MONTH, `${retryAt} is less than 30 days after the first failures`)
    await fail(store, { now: Number(retryAt) })
  },

  async 'of any number of attempts at once, no more are admitted than are left of the total'(open) {
    await enroll(await open())

    const outcomes = await race(open, (store) => store.settleAttempt(wrong({ limits: totalOf(20) })))

    assert.deepEqual(tally(outcomes), { wrong: 20, delayed: 30 })
  },

  async 'the total turns over: it may be tried again at `retryAt`'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { limits: totalOf(3) }, 3)

    const retryAt = Number(await refusedUntil(store, { limits: totalOf(3) }))

    assert.ok(retryAt <= noon + 2 * MONTH, 'nobody is shut out for more than twice `periodDays`')
    assert.equal(await refusedUntil(store, { now: retryAt - 1, limits: totalOf(3) }), retryAt)
    await fail(store, { now: retryAt, limits: totalOf(3) }, 3)
  },

  async 'the total holds over the boundary of a period'(open) {
    const store = await open()
    await enroll(store, { now: periodStart - DAY })
    await fail(store, { now: periodStart - 1, limits: totalOf(3) }, 3)

    for (const now of [periodStart - 1, periodStart, periodStart + 1, periodStart - 2 + MONTH]) {
      const retryAt = await refusedUntil(store, { now, limits: totalOf(3) })
      assert.ok(Number(retryAt) >= periodStart - 1 + MONTH, `at ${now - periodStart}: ${retryAt}`)
    }
  },

  async 'the total holds for failures on both sides of the boundary of a period'(open) {
    const store = await open()
    await enroll(store, { now: periodStart - DAY })
    await fail(store, { now: periodStart - 1, limits: totalOf(4) }, 2)
    await fail(store, { now: periodStart, limits: totalOf(4) }, 2)

    const retryAt = Number(await refusedUntil(store, { now: periodStart, limits: totalOf(4) }))

    assert.ok(retryAt >= periodStart - 1 + MONTH)
    assert.equal(await refusedUntil(store, { now: retryAt - 1, limits: totalOf(4) }), retryAt)
    await fail(store, { now: retryAt, limits: totalOf(4) }, 2)
    assert.notEqual(await refusedUntil(store, { now: retryAt, limits: totalOf(4) }), 'wrong')
  },

  async 'the whole total is free again after a long pause'(open) {
    const store = await open()
    await enroll(store, { now: periodStart - DAY })
    await fail(store, { now: periodStart - 1, limits: totalOf(4) }, 2)
    await fail(store, { now: periodStart, limits: totalOf(4) }, 2)

    await fail(store, { now: periodStart + 3 * MONTH, limits: totalOf(4) }, 4)
  },

  async 'in any `periodDays` days at most `total` attempts fail, whenever they are made'(open) {
    const store = await open()
    await enroll(store)
    const failures: number[] = []

    let now = noon
    for (let n = 0; n < 300; n++) {
      now += irregularPause(n)
      const { outcome } = await store.settleAttempt(wrong({ now, limits: totalOf(7) }))
      if (outcome === 'wrong') failures.push(now)
    }

    for (const end of failures) {
      const inWindow = failures.filter((at) => at <= end && at > end - MONTH).length
      assert.ok(inWindow <= 7, `${inWindow} failures in the 30 days before ${end}`)
    }
    assert.ok(failures.length > 75, 'and the user is not shut out for good')
  },

  async 'a clock set back does not reset the total'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { limits: totalOf(3) }, 3)

    for (const days of [1, 31, 62, 365]) {
      assert.notEqual(await refusedUntil(store, { now: noon - days * DAY, limits: totalOf(3) }), 'wrong')
    }
    assert.notEqual(await refusedUntil(store, { limits: totalOf(3) }), 'wrong')
  },

  async 'a clock set back and put right again does not reset the total'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { limits: totalOf(4) }, 3)
    await fail(store, { now: noon - MONTH, limits: totalOf(4) })

    assert.notEqual(await refusedUntil(store, { limits: totalOf(4) }), 'wrong')
    assert.notEqual(await refusedUntil(store, { now: noon + MONTH - 1, limits: totalOf(4) }), 'wrong')
  },

  async 'a clock set back ends neither a delay nor the hard cap'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 5)
    await fail(store, { method: 'backup_code', limits: { ...limits, lockAfter: 2 } }, 2)

    assert.equal(await refusedUntil(store, { now: noon - 60 * DAY }), noon + 30)
    const backupCode = { method: 'backup_code', now: noon - 60 * DAY, limits: { ...limits, lockAfter: 2 } } as const
    assert.equal(await refusedUntil(store, backupCode), 'locked')
  },

  async 'where a delay and the total both hold, it may be tried again at `retryAt`, when neither does'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { limits: { ...limits, maxPerPeriod: 5 } }, 5)

    const retryAt = Number(await refusedUntil(store, { limits: { ...limits, maxPerPeriod: 5 } }))

    await fail(store, { now: retryAt, limits: { ...limits, maxPerPeriod: 5 } })
  },

  async 'the two methods have budgets of their own'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { method: 'totp' }, 5)
    assert.equal(await refusedUntil(store, { method: 'totp' }), noon + 30)

    await fail(store, { method: 'backup_code' }, 5)
    assert.equal(await refusedUntil(store, { method: 'backup_code' }), noon + 30)
  },

  async 'a method that is locked or has used up its total leaves the other one free'(open) {
    const store = await open()
    await enroll(store)
    const capped = { ...limits, lockAfter: 3 }
    await fail(store, { method: 'totp', limits: capped }, 3)
    assert.equal(await refusedUntil(store, { method: 'totp', limits: capped }), 'locked')

    await fail(store, { method: 'backup_code', limits: totalOf(3) }, 3)
    assert.notEqual(await refusedUntil(store, { method: 'backup_code', limits: totalOf(3) }), 'wrong')
  },

  async 'a success with one method leaves the failures of the other one counted'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, { method: 'totp' }, 5)

    await fail(store, { method: 'backup_code' })
    await store.settleAttempt(byCode(user, ['code-1']))

    assert.equal(await refusedUntil(store, { method: 'totp' }), noon + 30)
  },

  async 'two users have budgets of their own'(open) {
    const store = await open()
    await enroll(store, { userId: 'ann' })
    await enroll(store, { userId: 'bob' })
    await fail(store, { userId: 'ann' }, 5)

    await fail(store, { userId: 'bob' }, 5)
  },
}

async function succeed(
  store: TotpStore,
  user: Enrolled,
  step: number,
  differing: Partial<Pick<Settlement, 'now' | 'limits'>> = {},
): Promise<void> {
  const spent = await store.settleAttempt(byStep(user, step, { limits, ...differing }))
  assert.equal(spent.outcome, 'spent')
}

/** Seconds between two attempts: some at once, some after minutes, some after days; the same in every run. */
function irregularPause(n: number): number {
  return n % 4 === 0 ? ((n * 7) % 23) * DAY : ((n * 5) % 11) * 60
}
