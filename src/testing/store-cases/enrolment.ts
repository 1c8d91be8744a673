import assert from 'node:assert/strict'
import {
  activate,
  alive,
  attempt,
  backupCodes,
  begin,
  byCode,
  byStep,
  enrol,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
  race,
  refusedUntil,
  reserve,
  tally,
  usedCodes,
} from '../store-fixtures.ts'

export const putPending: Promises = {
  async 'puts a pending authenticator in the place of an earlier pending one'(open) {
    const store = await open()
    const { expiresAt, ...second } = pending('second', {
      name: 'Second',
      parameters: { algorithm: 'SHA256', digits: 8, periodSeconds: 60 },
      createdAt: noon - 1,
      expiresAt: noon + 60,
    })
    await store.putPending('ann', pending('first'), 0)
    assert.equal(await store.putPending('ann', { ...second, expiresAt }, 0), true)

    const reservation = await store.reserveAttempt(attempt({ against: 'pending' }))

    assert.deepEqual(reservation.outcome === 'reserved' && reservation.authenticator, { ...second, lastUsedAt: null })
    assert.equal(await activate(store, { authenticatorId: 'second', generation: 0, now: expiresAt }), false)
    assert.equal(await activate(store, { authenticatorId: 'first', generation: 0 }), false)
    assert.equal(await activate(store, { authenticatorId: 'second', generation: 0 }), true)
  },

  async 'of any number at once exactly one is left'(open) {
    const puts = await race(open, (store, n) => store.putPending('ann', pending(`phone ${n}`), 0))
    assert.deepEqual(tally(puts), { true: 50 })

    const activations = await race(open, (store, n) =>
      activate(store, { authenticatorId: `phone ${n}`, generation: 0 }),
    )

    assert.deepEqual(tally(activations), { true: 1, false: 49 })
  },

  async 'a live one is untouched'(open) {
    const store = await open()
    const user = await enrol(store)
    const before = await store.getStatus('ann', noon, limits)

    await store.putPending('ann', pending('another'), user.generation)

    assert.deepEqual(await store.getStatus('ann', noon, limits), { ...before, hasPending: true })
    assert.equal((await store.spend(byStep(user, firstStep + 1))).outcome, 'spent')
  },

  async 'false, and nothing done, when the generation is not `generation` any more'(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)
    await store.putPending('ann', pending('current'), 1)

    assert.equal(await store.putPending('ann', pending('outdated'), 0), false)

    assert.equal(await activate(store, { authenticatorId: 'current', generation: 1 }), true)
  },
}

export const activatePending: Promises = {
  async 'exactly one caller gets true for a pending authenticator'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0)

    const answers = await race(open, (other, n) =>
      activate(other, { authenticatorId: 'phone', generation: 0, backupCodes: backupCodes([`code of caller ${n}`]) }),
    )

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    const [code] = await store.listBackupCodes('ann')
    assert.equal(code?.sealedCode, `sealed code of caller ${answers.indexOf(true)}`)
    assert.equal((await store.getUser('ann')).generation, 1)
  },

  async 'makes it the live one, switches 2FA on, and raises the generation'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0)

    await activate(store, { authenticatorId: 'phone', generation: 0, backupCodes: backupCodes(['a', 'b']) })

    const { expiresAt: _, ...authenticator } = pending('phone')
    assert.deepEqual(await store.getStatus('ann', noon, limits), {
      user: { generation: 1, changedAt: noon, confirmedAt: noon },
      authenticators: [{ ...authenticator, lastUsedAt: noon }],
      backupCodesRemaining: 2,
      hasPending: false,
      lockedUntil: null,
    })
  },

  async 'its step is spent'(open) {
    const store = await open()
    const user = await enrol(store)

    assert.deepEqual(await store.spend(byStep(user, firstStep)), { outcome: 'refused' })
    assert.deepEqual(await store.spend(byStep(user, firstStep - 1)), { outcome: 'refused' })
    assert.equal((await store.spend(byStep(user, firstStep + 1))).outcome, 'spent')
  },

  async 'takes the place of the live one, whose codes are good no more'(open) {
    const store = await open()
    const old = await enrol(store)
    await store.putPending('ann', pending('new'), old.generation)

    await activate(store, { authenticatorId: 'new', generation: old.generation, now: noon + 1 })

    const { user, authenticators } = await store.getStatus('ann', noon, limits)
    assert.deepEqual(
      authenticators.map(({ id }) => id),
      ['new'],
    )
    const codeOfOld = byStep({ ...old, generation: user.generation }, firstStep + 1)
    assert.deepEqual(await store.spend(codeOfOld), { outcome: 'refused' })
  },

  async 'there is no moment without a working factor'(open) {
    const store = await open()
    const { generation, authenticatorId } = await enrol(store)
    const replacements = 20
    const names = new Map([[generation, authenticatorId]])
    for (let n = 1; n <= replacements; n++) names.set(generation + n, `phone ${n}`)

    const replaceAll = async () => {
      for (let n = 0; n < replacements; n++) {
        await store.putPending('ann', pending(`phone ${n + 1}`), generation + n)
        await activate(store, { authenticatorId: `phone ${n + 1}`, generation: generation + n })
      }
    }
    const watch = () =>
      race(open, async (other, n) => {
        const { outcome } = await other.reserveAttempt(attempt({ userId: 'ann', method: 'backup_code' }))
        assert.ok(outcome === 'reserved' || outcome === 'delayed', `watcher ${n}: ${outcome}`)
        return other.getStatus('ann', noon, limits)
      })
    const [, ...seen] = await Promise.all([replaceAll(), watch(), watch(), watch()])

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
    const { generation } = await enrol(store)
    await store.putPending('ann', pending('new'), generation)

    await activate(store, { authenticatorId: 'new', generation, now: noon + 60 })

    assert.deepEqual(await store.getUser('ann'), { generation: 2, changedAt: noon + 60, confirmedAt: noon })
  },

  async '`backupCodes` replace the stored ones, used and unused'(open) {
    const store = await open()
    const user = await enrol(store, { codes: ['a', 'b'] })
    await store.spend(byCode(user, ['a']))
    await store.putPending('ann', pending('new'), 1)

    await activate(store, { authenticatorId: 'new', generation: 1, backupCodes: backupCodes(['c', 'a']) })

    assert.deepEqual(await store.listBackupCodes('ann'), [
      { sealedCode: 'sealed c', usedAt: null },
      { sealedCode: 'sealed a', usedAt: null },
    ])
  },

  async 'no backup codes given: the stored ones stay as they are'(open) {
    const store = await open()
    const user = await enrol(store, { codes: ['a', 'b'] })
    await store.spend(byCode(user, ['a']))
    await store.putPending('ann', pending('new'), 1)

    await activate(store, { authenticatorId: 'new', generation: 1, backupCodes: null })

    assert.deepEqual(await store.listBackupCodes('ann'), [
      { sealedCode: 'sealed a', usedAt: noon },
      { sealedCode: 'sealed b', usedAt: null },
    ])
  },

  async 'clears the failures of app codes, and not those of backup codes'(open) {
    const store = await open()
    await enrol(store)
    await store.putPending('ann', pending('new', { expiresAt: noon + 900 }), 1)
    await reserve(store, { method: 'backup_code' }, 5)
    await reserve(store, { method: 'totp', against: 'pending' }, 5)

    await activate(store, { authenticatorId: 'new', generation: 1 })

    await reserve(store, { method: 'totp' }, 5)
    assert.equal(await refusedUntil(store, { method: 'backup_code' }), noon + 30)
  },

  async 'of the refresh families only `keepFamilyId` survives'(open) {
    const store = await open()
    await begin(store, 'kept')
    await begin(store, 'ended')
    await begin(store, "bob's", { userId: 'bob' })
    await store.putPending('ann', pending('phone'), 0)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: 'kept' })

    assert.deepEqual(await alive(store, ['kept', 'ended', "bob's"]), ['kept', "bob's"])
    assert.equal(await store.isFamilyAlive('kept', 'token of kept', noon), true)
  },

  async 'all refresh families end where none is to be kept'(open) {
    const store = await open()
    await begin(store, 'one')
    await begin(store, 'two')
    await store.putPending('ann', pending('phone'), 0)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: null })

    assert.deepEqual(await alive(store, ['one', 'two']), [])
  },

  async 'a family that had ended before is not kept alive'(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)
    await begin(store, 'outdated', { generation: 0 })
    await store.putPending('ann', pending('phone'), 1)

    await activate(store, { authenticatorId: 'phone', generation: 1, keepFamilyId: 'outdated' })

    assert.deepEqual(await alive(store, ['outdated']), [])
  },

  async 'a family of another user is not touched, even where it is to be kept'(open) {
    const store = await open()
    await begin(store, "bob's", { userId: 'bob' })
    await store.putPending('ann', pending('phone'), 0)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: "bob's" })

    assert.deepEqual(await alive(store, ["bob's"]), ["bob's"])
    await store.raiseGeneration('bob', noon)
    assert.deepEqual(await alive(store, ["bob's"]), [])
  },

  async 'false, and nothing done, when it has expired'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone', { expiresAt: noon }), 0)
    await begin(store, 'family')

    assert.equal(await activate(store, { authenticatorId: 'phone', generation: 0, now: noon }), false)

    assert.deepEqual(await store.getUser('ann'), { generation: 0, changedAt: 0, confirmedAt: null })
    assert.deepEqual(await alive(store, ['family']), ['family'])
    assert.equal(await activate(store, { authenticatorId: 'phone', generation: 0, now: noon - 1 }), true)
  },

  async 'false, and nothing done, when it is gone or replaced, or of another user'(open) {
    const store = await open()
    const user = await enrol(store, { codes: ['a', 'b'] })
    await reserve(store, {}, 5)
    await store.putPending('ann', pending('replaced'), user.generation)
    await store.putPending('ann', pending('new'), user.generation)
    await store.putPending('bob', pending("bob's"), 0)
    const before = await store.getStatus('ann', noon, limits)

    for (const authenticatorId of ['replaced', 'unknown', "bob's", user.authenticatorId]) {
      const codes = backupCodes(['c'])
      assert.equal(await activate(store, { authenticatorId, generation: user.generation, backupCodes: codes }), false)
    }

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await store.spend(byCode(user, ['a']))).outcome, 'spent')
  },

  async 'false, and nothing done, when the generation is not `generation` any more'(open) {
    const store = await open()
    const user = await enrol(store, { codes: ['a', 'b'] })
    await store.putPending('ann', pending('new'), user.generation)
    await store.raiseGeneration('ann', noon)
    const before = await store.getStatus('ann', noon, limits)

    const codes = backupCodes(['c'])
    assert.equal(await activate(store, { authenticatorId: 'new', generation: 1, backupCodes: codes }), false)

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await store.listBackupCodes('ann')).length, 2)
    assert.deepEqual(await usedCodes(store), [])
  },
}
