import assert from 'node:assert/strict'
import type { TotpStore } from '../../store/store.ts'
import {
  activate,
  add,
  attempt,
  byCode,
  byStep,
  enroll,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
} from '../store-fixtures.ts'

/** Of `spend` and `activatePending`: how far an app's clock is off. */
export const settleDrift: Promises = {
  async 'remembers how far the clock of the app was off, ahead or behind'(open) {
    const store = await open()
    const user = await enroll(store)
    const seen: unknown[] = []

    for (const [n, driftSteps] of [2, -3, 0].entries()) {
      await store.settleAttempt(byStep(user, firstStep + 1 + n, { driftSteps }))
      seen.push(await driftOf(store))
    }

    assert.deepEqual(seen, [2, -3, 0])
  },

  async 'a refused or stale spending, and one of a backup code, leave the drift as it was'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.settleAttempt(byStep(user, firstStep + 5, { driftSteps: 2 }))

    await store.settleAttempt(byStep(user, firstStep + 4, { driftSteps: 9 }))
    await store.settleAttempt(byStep(user, firstStep + 6, { driftSteps: 9, generation: 0 }))
    await store.settleAttempt(byCode(user, ['code-1']))

    assert.equal(await driftOf(store), 2)
  },

  async 'each authenticator has a drift of its own'(open) {
    const store = await open()
    const second = await add(store, await enroll(store), 'second', { createdAt: noon - 30 })

    await store.settleAttempt(byStep(second, firstStep + 1, { driftSteps: -1 }))

    const { authenticators } = await store.getStatus('ann', noon, limits)
    assert.deepEqual(
      authenticators.map(({ driftSteps }) => driftSteps),
      [0, -1],
    )
  },

  async 'an activated authenticator begins with the drift of its first code'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    await activate(store, { authenticatorId: 'phone', generation: 0, driftSteps: -2 })

    assert.equal(await driftOf(store), -2)
  },
}

export const noteResyncStep: Promises = {
  async 'remembers the step of a live authenticator, and no other'(open) {
    const store = await open()
    const first = await enroll(store)
    await add(store, first, 'second', { createdAt: noon - 30 })

    await store.noteResyncStep('ann', 'second', firstStep + 7)

    const factors = await (await open()).readFactors(attempt())
    const handedOut = factors.outcome === 'open' ? factors.authenticators : []
    assert.deepEqual(
      handedOut.map(({ resyncStep }) => resyncStep),
      [null, firstStep + 7],
    )
  },

  async 'remembers the step of the pending authenticator, until another one takes its place'(open) {
    const store = await open()
    const resyncStep = async () => {
      const factors = await store.readFactors(attempt({ against: 'pending' }))
      return factors.outcome === 'open' && factors.authenticators[0]?.resyncStep
    }
    await store.putPending('ann', pending('phone'), 0, limits)

    await store.noteResyncStep('ann', 'phone', firstStep + 7)
    assert.equal(await resyncStep(), firstStep + 7)

    await store.putPending('ann', pending('another'), 0, limits)
    assert.equal(await resyncStep(), null)
  },

  async 'a later one takes its place, an earlier one does not: the later would be good when its time comes'(open) {
    const store = await open()
    const { authenticatorId } = await enroll(store)
    const seen: unknown[] = []

    for (const step of [firstStep - 7, firstStep + 7, firstStep - 6]) {
      await store.noteResyncStep('ann', authenticatorId, step)
      seen.push(await farStepOf(store))
    }

    assert.deepEqual(seen, [firstStep - 7, firstStep + 7, firstStep + 7])
  },

  async 'of the pending authenticator too the later one stays'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    await store.noteResyncStep('ann', 'phone', firstStep + 7)
    await store.noteResyncStep('ann', 'phone', firstStep - 7)

    const factors = await store.readFactors(attempt({ against: 'pending' }))
    assert.equal(factors.outcome === 'open' && factors.authenticators[0]?.resyncStep, firstStep + 7)
  },

  async 'spending a step of that authenticator forgets it, when the step is not an earlier one'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.noteResyncStep('ann', user.authenticatorId, firstStep + 7)

    await store.settleAttempt(byStep(user, firstStep))
    await store.settleAttempt(byCode(user, ['code-1']))
    assert.equal(await farStepOf(store), firstStep + 7, 'a refused spending, or one of a backup code, does not')

    await store.settleAttempt(byStep(user, firstStep + 1))
    assert.equal(await farStepOf(store), firstStep + 7, 'nor does one of an earlier step: its time is still to come')

    await store.settleAttempt(byStep(user, firstStep + 8))
    assert.equal(await farStepOf(store), null)
  },

  async 'an activated authenticator begins without one'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)
    await store.noteResyncStep('ann', 'phone', firstStep + 7)

    await activate(store, { authenticatorId: 'phone', generation: 0 })

    assert.equal(await farStepOf(store), null)
  },

  async 'nothing happens where the user has no authenticator by that id'(open) {
    const store = await open()
    const { authenticatorId } = await enroll(store, { userId: 'ann' })

    await store.noteResyncStep('bob', authenticatorId, firstStep + 7)
    await store.noteResyncStep('ann', 'unknown', firstStep + 7)

    assert.equal(await farStepOf(store), null)
  },
}

async function driftOf(store: TotpStore): Promise<number | undefined> {
  return (await store.getStatus('ann', noon, limits)).authenticators[0]?.driftSteps
}

async function farStepOf(store: TotpStore): Promise<number | null | undefined> {
  return (await store.getStatus('ann', noon, limits)).authenticators[0]?.resyncStep
}
