import assert from 'node:assert/strict'
import type { FailureKind, SingleUse, TotpStore } from '../../store/store.ts'
import {
  byCode,
  byStep,
  challengeOf,
  type Enrolled,
  enroll,
  fail,
  firstStep,
  limits,
  liveOnes,
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

export const getFailureBudget: Promises = {
  async 'a user never heard of has the whole budget'(open) {
    const whole = { consecutive: 0, attemptsLeft: 5, lockedUntil: null }

    assert.deepEqual(await (await open()).getFailureBudget('nobody', 'totp', noon, limits), whole)
  },

  async '`attemptsLeft` counts down to the delay; after it there is one attempt at a time'(open) {
    const store = await open()
    await enroll(store)
    const left: number[] = []
    for (let n = 0; n < 5; n++) {
      left.push((await store.getFailureBudget('ann', 'totp', noon, limits)).attemptsLeft)
      await fail(store)
    }

    const delayed = { consecutive: 5, attemptsLeft: 0, lockedUntil: noon + 30 }
    assert.deepEqual(left, [5, 4, 3, 2, 1])
    assert.deepEqual(await (await open()).getFailureBudget('ann', 'totp', noon, limits), delayed)
    assert.deepEqual(await store.getFailureBudget('ann', 'totp', noon + 29, limits), delayed)
    const after = { consecutive: 5, attemptsLeft: 1, lockedUntil: null }
    assert.deepEqual(await store.getFailureBudget('ann', 'totp', noon + 30, limits), after)
  },

  async '`forever`: the hard cap is reached; before it, no more attempts are left than up to it'(open) {
    const store = await open()
    await enroll(store)
    const capped = { ...limits, lockAfter: 3 }
    await fail(store, { limits: capped })

    assert.equal((await store.getFailureBudget('ann', 'totp', noon, capped)).attemptsLeft, 2)
    await fail(store, { limits: capped }, 2)
    const locked = { consecutive: 3, attemptsLeft: 0, lockedUntil: 'forever' }
    assert.deepEqual(await store.getFailureBudget('ann', 'totp', noon, capped), locked)
  },

  async 'no more attempts are left than of the total, before any delay'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { limits: totalOf(3) }, 2)

    assert.equal((await store.getFailureBudget('ann', 'totp', noon, totalOf(3))).attemptsLeft, 1)
  },

  async 'no more attempts are left than of the total, over the boundary of a period'(open) {
    const store = await open()
    await enroll(store, { now: periodStart - 60 })
    await fail(store, { now: periodStart - 60, limits: totalOf(3) }, 2)

    assert.equal((await store.getFailureBudget('ann', 'totp', periodStart, totalOf(3))).attemptsLeft, 1)
    await fail(store, { now: periodStart, limits: totalOf(3) })
    const { attemptsLeft, lockedUntil } = await store.getFailureBudget('ann', 'totp', periodStart, totalOf(3))
    assert.equal(attemptsLeft, 0)
    assert.equal(lockedUntil, await refusedUntil(store, { now: periodStart, limits: totalOf(3) }))
  },

  async 'says what `settleAttempt` does'(open) {
    const store = await open()
    await enroll(store)
    const tight = { ...limits, delayAfter: 2, lockAfter: 9, maxPerPeriod: 8 }

    for (let n = 0; n < 60; n++) {
      const now = noon + n * n * 40
      const { attemptsLeft, lockedUntil } = await store.getFailureBudget('ann', 'totp', now, tight)
      const refused = await refusedUntil(store, { now, limits: tight })
      assert.equal(attemptsLeft > 0, refused === 'wrong', `attempt ${n}: ${attemptsLeft} left, ${refused}`)
      assert.equal(lockedUntil ?? 'wrong', refused === 'locked' ? 'forever' : refused)
    }
  },

  async 'a success gives the budget back'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, {}, 4)

    await store.settleAttempt(byStep(user, firstStep + 1))

    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).attemptsLeft, 5)
  },

  async 'reads only: asking counts no attempt'(open) {
    await enroll(await open())

    const budgets = await race(open, (store) => store.getFailureBudget('ann', 'totp', noon, limits))

    for (const { attemptsLeft } of budgets) assert.equal(attemptsLeft, 5)
    await fail(await open(), {}, 5)
  },

  async 'each method has a budget of its own, and so has each user'(open) {
    const store = await open()
    for (const userId of ['ann', 'bob']) await enroll(store, { userId })
    await fail(store, { method: 'totp' }, 2)
    await fail(store, { method: 'backup_code' }, 3)
    await fail(store, { method: 'recovery_password' }, 4)

    assert.deepEqual(await consecutive(store, 'ann'), [2, 3, 4])
    assert.deepEqual(await consecutive(store, 'bob'), [0, 0, 0])
  },
}

/** Of `settleAttempt`: the password of a recovery, whose link is the challenge. */
export const recoveryPassword: Promises = {
  async 'of any number of passwords of a recovery at once, no more are admitted than the limits allow'(open) {
    const challenge = challengeOf(await enroll(await open()), 'link')

    const outcomes = await race(open, (store) =>
      store.settleAttempt(wrong({ method: 'recovery_password', token: challenge })),
    )

    assert.deepEqual(tally(outcomes), { wrong: 5, delayed: 45 })
  },

  async 'wrong passwords leave the codes free, and wrong codes the passwords'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { method: 'totp' }, 5)

    await fail(store, { method: 'recovery_password' }, 5)
    assert.equal(await refusedUntil(store, { method: 'recovery_password' }), noon + 30)
    await fail(store, { method: 'backup_code' }, 5)
  },

  async 'stale: the link of a recovery was burnt'(open) {
    const store = await open()
    const link = challengeOf(await enroll(store), 'link')
    await store.consumeToken(link, noon)

    assert.equal(await refusedUntil(await open(), { method: 'recovery_password', token: link }), 'stale')
  },

  async 'absent: a recovery of a user whose second factor is off'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    assert.equal(await refusedUntil(store, { method: 'recovery_password' }), 'absent')
  },
}

export const clearFailures: Promises = {
  async 'forgets consecutive failures and delays of every method'(open) {
    const store = await open()
    await enroll(store)
    for (const method of kinds) await fail(store, { method }, 5)

    await store.clearFailures('ann')

    assert.deepEqual(await consecutive(await open(), 'ann'), [0, 0, 0])
    for (const method of kinds) await fail(store, { method }, 5)
  },

  async 'forgets the hard cap and the total'(open) {
    const store = await open()
    await enroll(store)
    const capped = { ...totalOf(3), lockAfter: 3 }
    await fail(store, { limits: capped }, 3)
    assert.equal(await refusedUntil(store, { limits: capped }), 'locked')

    await store.clearFailures('ann')

    await fail(store, { limits: capped }, 3)
  },

  async 'forgets them of no other user, and changes nothing else'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann' })
    await enroll(store, { userId: 'bob' })
    await fail(store, { userId: 'bob' }, 5)
    const before = await store.getStatus('ann', noon, limits)
    await fail(store, {}, 5)

    await store.clearFailures('ann')
    await store.clearFailures('nobody')

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal(await refusedUntil(store, { userId: 'bob' }), noon + 30)
    assert.equal((await store.settleAttempt(byStep(ann, firstStep + 1))).outcome, 'spent')
  },
}

/** Of `removeFactors`, where the link of a recovery leads to it. */
export const removeFactorsByToken: Promises = {
  async 'exactly one of any number of callers removes factors with a `token`, and it dies with them'(open) {
    const store = await open()
    const user = await enroll(store)
    const token = challengeOf(user, 'link')

    const answers = await race(open, (other) => remove(other, user, token))

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    assert.equal((await store.getUser('ann')).confirmedAt, null)
    assert.equal(await store.isTokenUnused('link'), false)
  },

  async 'exactly one where 2FA is off, too'(open) {
    const store = await open()
    const nobody = { userId: 'ann', generation: 0, authenticatorId: 'phone', codes: [] }

    const answers = await race(open, (other) => remove(other, nobody, challengeOf(nobody, 'link')))

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    assert.equal(await store.isTokenUnused('link'), false)
  },

  async 'false, and nothing done, when `token` is burnt, expired, or of an earlier generation'(open) {
    const store = await open()
    const user = await enroll(store)
    const burnt = challengeOf(user, 'burnt')
    await store.consumeToken(burnt, noon)
    const before = await store.getStatus('ann', noon, limits)

    assert.equal(await remove(store, user, burnt), false)
    assert.equal(await remove(store, user, challengeOf(user, 'expired', { expiresAt: noon - 1 })), false)
    assert.equal(await remove(store, user, challengeOf(user, 'outdated', { generation: 0 })), false)

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal(await remove(store, user, challengeOf(user, 'last second', { expiresAt: noon })), true)
  },

  async 'all or nothing: a refused removal does not burn the token'(open) {
    const store = await open()
    const user = await enroll(store)
    const token = challengeOf(user, 'link')

    assert.equal(await remove(store, { ...user, generation: 0 }, { ...token, generation: 0 }), false)

    assert.equal(await store.isTokenUnused('link'), true)
    assert.equal(await remove(store, user, token), true)
  },

  async 'of removals and spendings that race for one token, exactly one gets it'(open) {
    const store = await open()
    const codes = Array.from({ length: 50 }, (_, n) => `code ${n}`)
    const user = await enroll(store, { codes })
    const token = challengeOf(user, 'link')

    const answers = await race(open, async (other, n) => {
      if (n % 5 === 0) return remove(other, user, token)
      return (await other.settleAttempt(byCode(user, [`code ${n}`], { token }))).outcome === 'spent'
    })

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    const isRemoved = answers.indexOf(true) % 5 === 0
    assert.equal((await liveOnes(store)).length, isRemoved ? 0 : 1)
  },
}

export const consumeToken: Promises = {
  async 'true for exactly one caller per `tokenId`'(open) {
    const token = { tokenId: 'link', expiresAt: noon + 120 }

    const answers = await race(open, (store) => store.consumeToken(token, noon))

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    assert.equal(await (await open()).consumeToken({ ...token, tokenId: 'another' }, noon), true)
  },

  async 'a burnt mark outlives its token by 60 s: a process whose clock is behind still accepts the token'(open) {
    const store = await open()
    const token = { tokenId: 'link', expiresAt: noon + 60 }
    await store.consumeToken(token, noon)

    // The clock of another process is ahead: for it the token has expired.
    for (const id of ['b', 'c']) await store.consumeToken({ tokenId: id, expiresAt: noon + 600 }, noon + 120)
    await store.deleteExpired(noon + 120)

    assert.equal(await (await open()).isTokenUnused('link'), false)
    assert.equal(await store.consumeToken(token, noon), false)
  },

  async 'what is burnt leads to nothing any more'(open) {
    const store = await open()
    const user = await enroll(store)
    const token = challengeOf(user, 'link')

    await store.consumeToken(token, noon)

    assert.equal(await (await open()).isTokenUnused('link'), false)
    assert.equal(await refusedUntil(store, { token }), 'stale')
    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 1, { token })), { outcome: 'stale' })
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent', 'and the step is not spent')
  },

  async 'a challenge that was spent can be burnt by nobody'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)
    await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge }))

    assert.equal(await store.consumeToken(challenge, noon), false)
  },

  async 'for none once it has expired: its burnt mark may be forgotten'(open) {
    const store = await open()
    const token = { tokenId: 'link', expiresAt: noon }

    assert.equal(await store.consumeToken(token, noon + 1), false)
    assert.equal(await store.consumeToken(token, noon), true)
  },
}

const kinds: readonly FailureKind[] = ['totp', 'backup_code', 'recovery_password']

function consecutive(store: TotpStore, userId: string): Promise<number[]> {
  const budgets = kinds.map((kind) => store.getFailureBudget(userId, kind, noon, limits))
  return Promise.all(budgets.map(async (budget) => (await budget).consecutive))
}

async function remove(store: TotpStore, { userId, generation }: Enrolled, token: SingleUse): Promise<boolean> {
  const removal = { userId, generation, token, keepFamilyId: null, now: noon, limits }
  return (await store.removeFactors(removal)).outcome === 'removed'
}
