import assert from 'node:assert/strict'
import type { TotpStore } from '../../store/store.ts'
import {
  activate,
  add,
  alive,
  attempt,
  begin,
  byCode,
  byStep,
  challengeOf,
  device,
  devicesOf,
  type Enrolled,
  enroll,
  firstStep,
  limits,
  liveOnes,
  noon,
  type Promises,
  pending,
  race,
  recordOf,
  refusedUntil,
  tally,
  wrong,
} from '../store-fixtures.ts'

/** Of `activatePending`, where a user may have several authenticators. */
export const activateFurther: Promises = {
  async '`first`: 2FA was off; `added`: beside a live one; `replaced`: in the place of one'(open) {
    const store = await open()
    const outcomes: string[] = []

    for (let generation = 0; generation < 4; generation++) {
      const authenticatorId = `phone ${generation}`
      await store.putPending('ann', pending(authenticatorId), generation, limits)
      outcomes.push(
        await activate(store, { authenticatorId, generation, maxAuthenticators: 2, now: noon + generation }),
      )
    }

    assert.deepEqual(outcomes, ['first', 'added', 'replaced', 'replaced'])
    assert.deepEqual((await liveOnes(store)).sort(), ['phone 2', 'phone 3'])
  },

  async '`first` again after the factors were removed'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.removeFactors({ limits, ...user, token: null, keepFamilyId: null, now: noon })
    await store.putPending('ann', pending('new'), 2, limits)

    assert.equal(await activate(store, { authenticatorId: 'new', generation: 2, maxAuthenticators: 5 }), 'first')
  },

  async 'it takes the place of the one that was used least lately'(open) {
    const store = await open()
    const first = await enroll(store, { now: noon })
    const second = await add(store, first, 'second', { now: noon + 60 })
    await store.settleAttempt(
      byStep({ ...second, authenticatorId: first.authenticatorId }, firstStep + 1, { now: noon + 90 }),
    )
    await store.putPending('ann', pending('third', { createdAt: noon }), second.generation, limits)

    await activate(store, { authenticatorId: 'third', generation: 2, maxAuthenticators: 2, now: noon + 120 })

    assert.deepEqual(await liveOnes(store), [first.authenticatorId, 'third'])
    assert.equal((await store.settleAttempt(byStep({ ...second, generation: 3 }, firstStep + 1))).outcome, 'wrong')
    assert.equal((await store.settleAttempt(byStep({ ...first, generation: 3 }, firstStep + 2))).outcome, 'spent')
  },

  async 'there is no moment without a working factor, nor with more than `maxAuthenticators`'(open) {
    const store = await open()
    const first = await enroll(store)
    const { generation } = await add(store, first, 'phone 0')
    const replaceAll = async () => {
      for (let n = 1; n <= 20; n++) {
        const next = { authenticatorId: `phone ${n}`, generation: generation + n - 1, maxAuthenticators: 2 }
        await store.putPending('ann', pending(next.authenticatorId), next.generation, limits)
        assert.equal(await activate(store, { ...next, now: noon + n }), 'replaced')
      }
    }
    const watch = () => race(open, (other) => other.readFactors(attempt()))

    const [, ...seen] = await Promise.all([replaceAll(), watch(), watch()])

    const live = seen.flat().map((factors) => (factors.outcome === 'open' ? factors.authenticators : []))
    assert.deepEqual(new Set(live.map(({ length }) => length)), new Set([2]))
    assert.deepEqual((await liveOnes(store)).sort(), ['phone 19', 'phone 20'])
  },
}

/** Of `readFactors`, where a user has several authenticators. */
export const readSeveral: Promises = {
  async 'hands out all live authenticators, the oldest first'(open) {
    const store = await open()
    const first = await enroll(store)
    const second = await add(store, first, 'older', { createdAt: noon - 120 })
    await add(store, second, 'newer', { createdAt: noon - 30 })

    const factors = await (await open()).readFactors(attempt())

    assert.deepEqual(factors.outcome === 'open' && factors.authenticators, [
      recordOf(pending('older', { createdAt: noon - 120 }), { lastUsedAt: noon }),
      recordOf(pending(first.authenticatorId), { lastUsedAt: noon }),
      recordOf(pending('newer', { createdAt: noon - 30 }), { lastUsedAt: noon }),
    ])
  },

  async 'they share one budget'(open) {
    const store = await open()
    await add(store, await enroll(store), 'second')

    const settled = await race(open, (other) => other.settleAttempt(wrong({ generation: 2 })))

    assert.deepEqual(tally(settled), { wrong: 5, delayed: 45 })
  },
}

/** Of `settleAttempt`, where a user has several authenticators. */
export const settleSeveral: Promises = {
  async 'a step is spent for each authenticator by itself, exactly once for each'(open) {
    const store = await open()
    const first = await enroll(store)
    const second = await add(store, first, 'second')
    const both = [{ ...first, generation: second.generation }, second]

    const answers = await race(open, (other, n) => other.settleAttempt(byStep(both[n % 2] as Enrolled, firstStep + 1)))

    assert.deepEqual(tally(answers), { spent: 2, spent_before: 48 })
  },

  async 'the first step of one leaves the steps of another as they are'(open) {
    const store = await open()
    const first = await enroll(store)
    const { generation } = await add(store, first, 'second', { step: firstStep + 100 })

    assert.equal((await store.settleAttempt(byStep({ ...first, generation }, firstStep + 1))).outcome, 'spent')
  },

  async 'only the one that was used was used'(open) {
    const store = await open()
    const second = await add(store, await enroll(store), 'second', { createdAt: noon - 30 })

    await store.settleAttempt(byStep(second, firstStep + 1, { now: noon + 60 }))

    const { authenticators } = await store.getStatus('ann', noon, limits)
    assert.deepEqual(
      authenticators.map(({ lastUsedAt }) => lastUsedAt),
      [noon, noon + 60],
    )
  },
}

export const removeAuthenticator: Promises = {
  async 'removes one live authenticator, and leaves the others and the backup codes'(open) {
    const store = await open()
    const first = await enroll(store)
    const second = await add(store, first, 'second')

    assert.equal(await remove(store, second, { now: noon + 60 }), 'removed')

    assert.deepEqual(await liveOnes(store), [first.authenticatorId])
    assert.deepEqual(await store.getUser('ann'), { generation: 3, changedAt: noon + 61, confirmedAt: noon })
    const user = { ...first, generation: 3 }
    const removed = byStep({ ...user, authenticatorId: 'second' }, firstStep + 1)
    assert.equal((await store.settleAttempt(removed)).outcome, 'wrong')
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
    assert.equal((await store.settleAttempt(byCode(user, ['code-1']))).outcome, 'spent')
  },

  async 'exactly one of any number of callers removes one of two, and `last` is what is left'(open) {
    const store = await open()
    const first = await enroll(store)
    const { generation } = await add(store, first, 'second')
    const both = [first.authenticatorId, 'second']

    const answers = await race(open, (other, n) =>
      remove(other, { ...first, generation, authenticatorId: String(both[n % 2]) }),
    )

    assert.deepEqual(tally(answers), { removed: 1, stale: 49 })
    assert.equal((await liveOnes(store)).length, 1)
  },

  async 'never the last one, when each of the racing callers knows the newest generation'(open) {
    const store = await open()
    const first = await enroll(store)
    await add(store, first, 'second')
    const both = [first.authenticatorId, 'second']

    const answers = await race(open, async (other, n) => {
      for (;;) {
        const { generation } = await other.getUser('ann')
        const answer = await remove(other, { ...first, generation, authenticatorId: String(both[n % 2]) })
        if (answer !== 'stale') return answer
      }
    })

    assert.deepEqual(tally(answers), { removed: 1, absent: 24, last: 25 })
    const left = await liveOnes(store)
    assert.deepEqual(left, [both[answers.indexOf('last') % 2]])
    assert.notEqual((await store.getUser('ann')).confirmedAt, null)
  },

  async '`last`, and nothing was done'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.putPending('ann', pending('new'), user.generation, limits)
    const before = await store.getStatus('ann', noon, limits)

    assert.equal(await remove(store, user), 'last')

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
  },

  async '`absent`, and nothing was done: one that is unknown, pending or of another user'(open) {
    const store = await open()
    const ann = await add(store, await enroll(store), 'second')
    const bob = await enroll(store, { userId: 'bob' })
    await add(store, bob, "bob's second")
    await store.putPending('ann', pending('new'), ann.generation, limits)
    const before = await store.getStatus('ann', noon, limits)

    for (const authenticatorId of ['unknown', 'new', bob.authenticatorId]) {
      assert.equal(await remove(store, { ...ann, authenticatorId }), 'absent', authenticatorId)
    }

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await liveOnes(store, 'bob')).length, 2)
  },

  async '`stale`, and nothing was done: the generation is not `generation` any more'(open) {
    const store = await open()
    const user = await add(store, await enroll(store), 'second')
    await store.raiseGeneration('ann', noon)

    assert.equal(await remove(store, user), 'stale')

    assert.equal((await liveOnes(store)).length, 2)
    assert.equal((await store.getUser('ann')).generation, 3)
  },

  async 'ends open challenges, a pending enrollment, trusted devices and refresh families but `keepFamilyId`'(open) {
    const store = await open()
    const user = await add(store, await enroll(store), 'second')
    const { generation } = user
    for (const id of ['kept', 'ended']) await begin(store, id, { generation })
    await store.keepTrustedDevice(device('laptop'), generation)
    await store.putPending('ann', pending('new'), generation, limits)

    await remove(store, user, { keepFamilyId: 'kept' })

    assert.equal(await refusedUntil(store, { token: challengeOf(user) }), 'stale')
    assert.deepEqual(await alive(store, ['kept', 'ended']), ['kept'])
    assert.deepEqual(await devicesOf(store), [])
    assert.equal((await store.getStatus('ann', noon, limits)).pendingUntil, null)
  },
}

function remove(
  store: TotpStore,
  { userId, authenticatorId, generation }: Enrolled,
  { keepFamilyId = null, now = noon }: { keepFamilyId?: string | null; now?: number } = {},
): Promise<'removed' | 'last' | 'absent' | 'stale'> {
  return store.removeAuthenticator({ userId, authenticatorId, generation, keepFamilyId, now })
}
