import assert from 'node:assert/strict'
import type { FactorStatus } from '../../store/store.ts'
import {
  activate,
  alive,
  attempt,
  backupCodes,
  begin,
  byCode,
  byStep,
  changeAmidst,
  changeCredentials,
  enroll,
  fail,
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
  totalOf,
  usedCodes,
} from '../store-fixtures.ts'

export const putPending: Promises = {
  async 'puts a pending authenticator in the place of an earlier pending one'(open) {
    const store = await open()
    const second = pending('second', {
      name: 'Second',
      parameters: { algorithm: 'SHA256', digits: 8, periodSeconds: 60 },
      createdAt: noon - 1,
      expiresAt: noon + 60,
    })
    await store.putPending('ann', pending('first'), 0, limits)
    assert.equal(await store.putPending('ann', second, 0, limits), true)

    const factors = await store.readFactors(attempt({ against: 'pending' }))

    assert.deepEqual(factors.outcome === 'open' && factors.authenticators, [recordOf(second)])
    const expired = { authenticatorId: 'second', generation: 0, now: second.expiresAt }
    assert.equal(await activate(store, expired), 'refused')
    assert.equal(await activate(store, { authenticatorId: 'first', generation: 0 }), 'refused')
    assert.equal(await activate(store, { authenticatorId: 'second', generation: 0 }), 'first')
  },

  async 'where 2FA is off, a hard cap that wrong first codes have reached is lifted; delay and total stay'(open) {
    const store = await open()
    const low = { ...limits, delayAfter: 3, lockAfter: 3, maxPerPeriod: 4 }
    const first = { against: 'pending', limits: low } as const
    await store.putPending('ann', pending('first'), 0, low)
    await fail(store, { method: 'backup_code', ...first }, 3)
    await fail(store, first, 3)
    assert.equal(await refusedUntil(store, { ...first, now: noon + 30 }), 'locked')

    await store.putPending('ann', pending('second'), 0, low)

    assert.equal(await refusedUntil(store, { ...first, now: noon + 29 }), noon + 30)
    await fail(store, { ...first, now: noon + 30 })
    assert.ok(Number(await refusedUntil(store, { ...first, now: noon + 90 })) > noon + 90, 'the total')
    assert.equal(await refusedUntil(store, { ...first, method: 'backup_code' }), 'locked', 'of app codes only')
  },

  async 'failures below the hard cap stay counted, and where 2FA is on those at it'(open) {
    const store = await open()
    await store.putPending('ann', pending('first'), 0, limits)
    await fail(store, { against: 'pending' }, 4)
    await store.putPending('ann', pending('second'), 0, limits)
    await fail(store, { against: 'pending' })
    assert.equal(await refusedUntil(store, { against: 'pending' }), noon + 30)
    const low = { ...limits, lockAfter: 3 }
    const bob = await enroll(store, { userId: 'bob' })
    await fail(store, { userId: 'bob', limits: low }, 3)

    await store.putPending('bob', pending("bob's other"), bob.generation, low)

    assert.equal(await refusedUntil(store, { userId: 'bob', limits: low, now: noon + 900 }), 'locked')
  },

  async 'of any number at once exactly one is left'(open) {
    const puts = await race(open, (store, n) => store.putPending('ann', pending(`phone ${n}`), 0, limits))
    assert.deepEqual(tally(puts), { true: 50 })

    const activations = await race(open, (store, n) =>
      activate(store, { authenticatorId: `phone ${n}`, generation: 0 }),
    )

    assert.deepEqual(tally(activations), { first: 1, refused: 49 })
  },

  async 'none is put once the credentials have changed'(open) {
    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store, n) => store.putPending('ann', pending(`phone ${n}`), 0, limits),
      async look(store) {
        const factors = await store.readFactors(attempt({ against: 'pending' }))
        return factors.outcome === 'open' ? factors.authenticators[0]?.id : factors.outcome
      },
    })

    assert.equal(after, changed)
  },

  async 'a live one is untouched'(open) {
    const store = await open()
    const user = await enroll(store)
    const before = await store.getStatus('ann', noon, limits)

    await store.putPending('ann', pending('another'), user.generation, limits)

    assert.deepEqual(await store.getStatus('ann', noon, limits), { ...before, pendingUntil: noon + 15 * 60 })
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
  },

  async 'false, and nothing done, when the generation is not `generation` any more'(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)
    await store.putPending('ann', pending('current'), 1, limits)

    assert.equal(await store.putPending('ann', pending('outdated'), 0, limits), false)

    assert.equal(await activate(store, { authenticatorId: 'current', generation: 1 }), 'first')
  },
}

export const activatePending: Promises = {
  async 'exactly one caller gets anything but `refused` for a pending authenticator'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    const answers = await race(open, (other, n) =>
      activate(other, { authenticatorId: 'phone', generation: 0, backupCodes: backupCodes([`code of caller ${n}`]) }),
    )

    assert.deepEqual(tally(answers), { first: 1, refused: 49 })
    const [code] = await store.listBackupCodes('ann')
    assert.equal(code?.sealedCode, `sealed code of caller ${answers.indexOf('first')}`)
    assert.equal((await store.getUser('ann')).generation, 1)
  },

  async 'none goes live once the credentials have changed'(open) {
    await (await open()).putPending('ann', pending('phone'), 0, limits)

    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store) => activate(store, { authenticatorId: 'phone', generation: 0 }),
      look: (store) => store.getStatus('ann', noon, limits),
    })

    assert.deepEqual(after, changed)
  },

  async 'makes it the live one, switches 2FA on, and raises the generation'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    await activate(store, { authenticatorId: 'phone', generation: 0, backupCodes: backupCodes(['a', 'b']) })

    assert.deepEqual(await store.getStatus('ann', noon, limits), {
      user: { generation: 1, changedAt: noon + 1, confirmedAt: noon },
      authenticators: [recordOf(pending('phone'), { lastUsedAt: noon })],
      backupCodesRemaining: 2,
      backupCodesSavedAt: null,
      pendingUntil: null,
      trustedDevices: 0,
      lockedUntil: null,
    })
  },

  async 'its step is spent'(open) {
    const store = await open()
    const user = await enroll(store)

    assert.equal((await store.settleAttempt(byStep(user, firstStep))).outcome, 'spent_before')
    assert.equal((await store.settleAttempt(byStep(user, firstStep - 1))).outcome, 'spent_before')
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
  },

  async 'takes the place of the live one where there may be no other, whose codes are good no more'(open) {
    const store = await open()
    const old = await enroll(store)
    await store.putPending('ann', pending('new'), old.generation, limits)

    await activate(store, { authenticatorId: 'new', generation: old.generation, now: noon + 1 })

    assert.deepEqual(await liveOnes(store), ['new'])
    const codeOfOld = byStep({ ...old, generation: old.generation + 1 }, firstStep + 1)
    assert.equal((await store.settleAttempt(codeOfOld)).outcome, 'wrong')
  },

  async 'there is no moment without a working factor'(open) {
    const store = await open()
    const { generation, authenticatorId } = await enroll(store)
    const replacements = 20
    const names = new Map([[generation, authenticatorId]])
    for (let n = 1; n <= replacements; n++) names.set(generation + n, `phone ${n}`)

    let replacing = true
    const replaceAll = async () => {
      for (let n = 0; n < replacements; n++) {
        await store.putPending('ann', pending(`phone ${n + 1}`), generation + n, limits)
        await activate(store, { authenticatorId: `phone ${n + 1}`, generation: generation + n })
      }
    }
    const watch = async () => {
      const other = await open()
      const seen: FactorStatus[] = []
      while (replacing) {
        // A store that answers at once must not keep the writers from their turn.
        await new Promise((resolve) => setImmediate(resolve))
        assert.equal((await other.readFactors(attempt({ method: 'backup_code' }))).outcome, 'open')
        seen.push(await other.getStatus('ann', noon, limits))
      }
      return seen
    }
    const replaced = replaceAll().finally(() => {
      replacing = false
    })
    const [, ...seen] = await Promise.all([replaced, watch(), watch(), watch()])

    for (const { user, authenticators } of seen.flat()) {
      assert.notEqual(user.confirmedAt, null)
      assert.deepEqual(
        authenticators.map(({ id }) => id),
        [names.get(user.generation)],
      )
    }
  },

  async 'keeps the time when 2FA was switched on, where it was on before'(open) {
    const store = await open()
    const { generation } = await enroll(store)
    await store.putPending('ann', pending('new'), generation, limits)

    await activate(store, { authenticatorId: 'new', generation, now: noon + 60 })

    assert.deepEqual(await store.getUser('ann'), { generation: 2, changedAt: noon + 61, confirmedAt: noon })
  },

  async '`backupCodes` replace the stored ones, used and unused'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b'] })
    await store.settleAttempt(byCode(user, ['a']))
    await store.putPending('ann', pending('new'), 1, limits)

    await activate(store, { authenticatorId: 'new', generation: 1, backupCodes: backupCodes(['c', 'a']) })

    assert.deepEqual(await store.listBackupCodes('ann'), [
      { sealedCode: 'sealed c', usedAt: null },
      { sealedCode: 'sealed a', usedAt: null },
    ])
  },

  async 'no backup codes given: the stored ones stay as they are'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b'] })
    await store.settleAttempt(byCode(user, ['a']))
    await store.putPending('ann', pending('new'), 1, limits)

    await activate(store, { authenticatorId: 'new', generation: 1, backupCodes: null })

    assert.deepEqual(await store.listBackupCodes('ann'), [
      { sealedCode: 'sealed a', usedAt: noon },
      { sealedCode: 'sealed b', usedAt: null },
    ])
  },

  async 'admits its code against the budget of TOTP codes'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)
    await fail(store, { against: 'pending' }, 5)
    const activation = { userId: 'ann', authenticatorId: 'phone', step: firstStep, driftSteps: 0, maxAuthenticators: 1 }
    const common = { ...activation, generation: 0, backupCodes: null, keepFamilyId: null, limits, now: noon + 29 }

    const early = await store.activatePending({ ...common, isCounted: false })
    assert.deepEqual(early, { outcome: 'delayed', retryAt: noon + 30 })
    assert.equal((await store.getUser('ann')).confirmedAt, null)

    const counted = await store.activatePending({ ...common, isCounted: true })
    assert.deepEqual(counted, { outcome: 'first' }, 'unless it was counted as a failure before')
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, totalOf(5))).attemptsLeft, 1, 'which is taken back')
  },

  async 'clears the failures of TOTP codes, and not those of backup codes'(open) {
    const store = await open()
    await enroll(store)
    await store.putPending('ann', pending('new', { expiresAt: noon + 900 }), 1, limits)
    await fail(store, { method: 'backup_code' }, 5)
    await fail(store, { method: 'totp', against: 'pending' }, 5)

    await activate(store, { authenticatorId: 'new', generation: 1, now: noon + 30, limits })

    await fail(store, { method: 'totp' }, 5)
    assert.equal(await refusedUntil(store, { method: 'backup_code' }), noon + 30)
  },

  async 'of the refresh families only `keepFamilyId` survives'(open) {
    const store = await open()
    await begin(store, 'kept')
    await begin(store, 'ended')
    await begin(store, "bob's", { userId: 'bob' })
    await store.putPending('ann', pending('phone'), 0, limits)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: 'kept' })

    assert.deepEqual(await alive(store, ['kept', 'ended', "bob's"]), ['kept', "bob's"])
    assert.equal(await store.isFamilyAlive('kept', 'token of kept', noon), true)
  },

  async 'all refresh families end where none is to be kept'(open) {
    const store = await open()
    await begin(store, 'one')
    await begin(store, 'two')
    await store.putPending('ann', pending('phone'), 0, limits)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: null })

    assert.deepEqual(await alive(store, ['one', 'two']), [])
  },

  async 'a family that had ended before is not kept alive'(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)
    await begin(store, 'outdated', { generation: 0 })
    await store.putPending('ann', pending('phone'), 1, limits)

    await activate(store, { authenticatorId: 'phone', generation: 1, keepFamilyId: 'outdated' })

    assert.deepEqual(await alive(store, ['outdated']), [])
  },

  async 'a family of another user is not touched, even where it is to be kept'(open) {
    const store = await open()
    await begin(store, "bob's", { userId: 'bob' })
    await store.putPending('ann', pending('phone'), 0, limits)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: "bob's" })

    assert.deepEqual(await alive(store, ["bob's"]), ["bob's"])
    await store.raiseGeneration('bob', noon)
    assert.deepEqual(await alive(store, ["bob's"]), [])
  },

  async '`refused`, and nothing done, when it has expired'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone', { expiresAt: noon }), 0, limits)
    await begin(store, 'family')

    assert.equal(await activate(store, { authenticatorId: 'phone', generation: 0, now: noon }), 'refused')

    assert.deepEqual(await store.getUser('ann'), { generation: 0, changedAt: 0, confirmedAt: null })
    assert.deepEqual(await alive(store, ['family']), ['family'])
    assert.equal(await activate(store, { authenticatorId: 'phone', generation: 0, now: noon - 1 }), 'first')
  },

  async '`refused`, and nothing done, when it is gone or replaced, or of another user'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b'] })
    await fail(store, {}, 5)
    await store.putPending('ann', pending('replaced'), user.generation, limits)
    await store.putPending('ann', pending('new'), user.generation, limits)
    await store.putPending('bob', pending("bob's"), 0, limits)
    const before = await store.getStatus('ann', noon, limits)

    for (const authenticatorId of ['replaced', 'unknown', "bob's", user.authenticatorId]) {
      const { generation } = user
      const activation = { authenticatorId, generation, backupCodes: backupCodes(['c']), now: noon + 30 }
      assert.equal(await activate(store, activation), 'refused')
    }

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await store.settleAttempt(byCode(user, ['a']))).outcome, 'spent')
  },

  async '`refused`, and nothing done, when the generation is not `generation` any more'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b'] })
    await store.putPending('ann', pending('new'), user.generation, limits)
    await store.raiseGeneration('ann', noon)
    const before = await store.getStatus('ann', noon, limits)

    const codes = backupCodes(['c'])
    assert.equal(await activate(store, { authenticatorId: 'new', generation: 1, backupCodes: codes }), 'refused')

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await store.listBackupCodes('ann')).length, 2)
    assert.deepEqual(await usedCodes(store), [])
  },
}
