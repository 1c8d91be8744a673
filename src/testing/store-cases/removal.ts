import assert from 'node:assert/strict'
import type { TotpStore } from '../../store/store.ts'
import {
  activate,
  alive,
  backupCodes,
  begin,
  byCode,
  challengeOf,
  changeAmidst,
  changeCredentials,
  type Enrolled,
  enroll,
  fail,
  limits,
  noon,
  type Promises,
  pending,
  race,
  refusedUntil,
  tally,
  totalOf,
  usedCodes,
} from '../store-fixtures.ts'

export const removeFactors: Promises = {
  async 'removes authenticators, pending ones included, and backup codes; switches 2FA off; raises the generation'(
    open,
  ) {
    const store = await open()
    const user = await enroll(store)
    await store.putPending('ann', pending('new'), user.generation, limits)

    assert.equal(await remove(store, user, { now: noon + 60 }), true)

    assert.deepEqual(await store.getStatus('ann', noon, limits), {
      user: { generation: 2, changedAt: noon + 61, confirmedAt: null },
      authenticators: [],
      backupCodesRemaining: 0,
      backupCodesSavedAt: null,
      pendingUntil: null,
      trustedDevices: 0,
      lockedUntil: null,
    })
    assert.deepEqual(await store.listBackupCodes('ann'), [])
    assert.equal(await refusedUntil(store), 'absent')
  },

  async 'exactly one of any number of callers removes what is there'(open) {
    const store = await open()
    const user = await enroll(store)

    const answers = await race(open, (other) => remove(other, user))

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    assert.equal((await store.getUser('ann')).generation, user.generation + 1)
  },

  async 'nothing is removed once the credentials have changed'(open) {
    const user = await enroll(await open())

    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store) => remove(store, user),
      look: (store) => store.getStatus('ann', noon, limits),
    })

    assert.deepEqual(after, changed)
  },

  async 'clears the consecutive failures of both methods'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, { method: 'totp' }, 5)
    await fail(store, { method: 'backup_code' }, 5)

    await remove(store, user)

    await store.putPending('ann', pending('new'), user.generation + 1, limits)
    await fail(store, { method: 'totp', against: 'pending' }, 5)
    await fail(store, { method: 'backup_code', against: 'pending' }, 5)
  },

  async 'does not give back what counts for the total'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store, { method: 'totp', limits: totalOf(5) }, 5)
    await fail(store, { method: 'backup_code', limits: totalOf(5) }, 5)

    await remove(store, user)

    await store.putPending('ann', pending('new'), user.generation + 1, limits)
    const against = { against: 'pending', limits: totalOf(5) } as const
    assert.notEqual(await refusedUntil(store, { ...against, method: 'totp' }), 'wrong')
    assert.notEqual(await refusedUntil(store, { ...against, method: 'backup_code' }), 'wrong')
  },

  async 'frees a user whom the hard cap has locked'(open) {
    const store = await open()
    const user = await enroll(store)
    const capped = { ...limits, lockAfter: 3 }
    await fail(store, { limits: capped }, 3)

    await remove(store, user)
    await enroll(store)

    await fail(store, { limits: capped })
  },

  async 'of the refresh families only `keepFamilyId` survives'(open) {
    const store = await open()
    const user = await enroll(store)
    await begin(store, 'kept', { generation: user.generation })
    await begin(store, 'ended', { generation: user.generation })
    await begin(store, "bob's", { userId: 'bob' })

    await remove(store, user, { keepFamilyId: 'kept' })

    assert.deepEqual(await alive(store, ['kept', 'ended', "bob's"]), ['kept', "bob's"])
  },

  async 'where 2FA is off, only the pending authenticator is removed and nothing else changes'(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)
    await begin(store, 'family', { generation: 1 })
    await store.putPending('ann', pending('phone'), 1, limits)
    await fail(store, { against: 'pending' }, 5)
    const before = await store.getStatus('ann', noon, limits)
    const removal = { userId: 'ann', generation: 1, token: null, keepFamilyId: null, now: noon + 1, limits }

    assert.deepEqual(await store.removeFactors(removal), { outcome: 'removed' })

    assert.deepEqual(await store.getStatus('ann', noon, limits), { ...before, pendingUntil: null })
    assert.equal(before.lockedUntil, noon + 30, 'so that an enrollment begun anew does not begin the count anew')
    assert.deepEqual(await alive(store, ['family']), ['family'])
    assert.equal(await activate(store, { authenticatorId: 'phone', generation: 1, now: noon + 30 }), 'refused')
  },

  async 'where 2FA is off, a hard cap that wrong first codes have reached is lifted'(open) {
    const store = await open()
    const low = { ...limits, lockAfter: 3 }
    await store.putPending('ann', pending('phone'), 0, limits)
    await fail(store, { against: 'pending', limits: low }, 3)
    assert.equal((await store.getStatus('ann', noon, low)).lockedUntil, 'forever')

    await store.removeFactors({ userId: 'ann', generation: 0, token: null, keepFamilyId: null, now: noon, limits: low })

    assert.equal((await store.getStatus('ann', noon, low)).lockedUntil, null)
  },

  async 'false, and nothing done, when the generation is not `generation` any more'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.putPending('ann', pending('new'), user.generation, limits)
    await fail(store, {}, 5)
    await store.raiseGeneration('ann', noon)
    await begin(store, 'family', { generation: 2 })
    const before = await store.getStatus('ann', noon, limits)

    assert.equal(await remove(store, user), false)

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.deepEqual(await alive(store, ['family']), ['family'])
  },

  async 'takes nothing from another user'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann' })
    await enroll(store, { userId: 'bob' })
    await store.putPending('bob', pending('new'), 1, limits)
    const before = await store.getStatus('bob', noon, limits)

    await remove(store, ann)

    assert.deepEqual(await store.getStatus('bob', noon, limits), before)
  },
}

export const replaceBackupCodes: Promises = {
  async "puts the codes in the place of the user's codes, used and unused"(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b', 'c'] })
    await store.settleAttempt(byCode(user, ['a']))

    assert.equal(await store.replaceBackupCodes('ann', backupCodes(['d', 'a']), user.generation), true)

    assert.deepEqual(await store.listBackupCodes('ann'), [
      { sealedCode: 'sealed d', usedAt: null },
      { sealedCode: 'sealed a', usedAt: null },
    ])
    assert.equal((await store.settleAttempt(byCode(user, ['b']))).outcome, 'wrong')
    assert.equal((await store.settleAttempt(byCode(user, ['a']))).outcome, 'spent')
  },

  async 'of any number at once, one whole list is left'(open) {
    const store = await open()
    const user = await enroll(store)
    const listOf = (caller: number) => [`${caller}: a`, `${caller}: b`, `${caller}: c`]

    const answers = await race(open, (other, n) =>
      other.replaceBackupCodes('ann', backupCodes(listOf(n)), user.generation),
    )

    assert.deepEqual(tally(answers), { true: 50 })
    const left = (await store.listBackupCodes('ann')).map(({ sealedCode }) => sealedCode)
    const lists = answers.map((_, n) => listOf(n).map((code) => `sealed ${code}`))
    assert.ok(lists.some((list) => list.join() === left.join()))
  },

  async 'none are replaced once the credentials have changed'(open) {
    const user = await enroll(await open())

    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store, n) => store.replaceBackupCodes('ann', backupCodes([`code of caller ${n}`]), user.generation),
      look: (store) => store.listBackupCodes('ann'),
    })

    assert.deepEqual(after, changed)
  },

  async 'none of the old codes is spent once they are replaced, and the new ones stay unused'(open) {
    const codes = Array.from({ length: 50 }, (_, n) => `old ${n}`)
    const user = await enroll(await open(), { codes })
    const challengeFor = (code: string) => challengeOf(user, `challenge for ${code}`)

    const { changed, after } = await changeAmidst(open, {
      change: (store) => store.replaceBackupCodes('ann', backupCodes(['new 1', 'new 2']), user.generation),
      call: (store, n) => store.settleAttempt(byCode(user, [`old ${n}`], { token: challengeFor(`old ${n}`) })),
      async look(store) {
        const unburnt = await Promise.all(codes.map((code) => store.isTokenUnused(challengeFor(code).tokenId)))
        return codes.filter((_, n) => !unburnt[n])
      },
    })

    // A store may burn a challenge first, and give it back when its code is refused.
    assert.deepEqual(
      after.filter((code) => !changed?.includes(code)),
      [],
    )
    assert.deepEqual(await (await open()).listBackupCodes('ann'), [
      { sealedCode: 'sealed new 1', usedAt: null },
      { sealedCode: 'sealed new 2', usedAt: null },
    ])
  },

  async "leaves another user's codes alone, even where a digest is the same"(open) {
    const store = await open()
    await enroll(store, { userId: 'bob', codes: ['a', 'b'] })
    const ann = await enroll(store, { userId: 'ann', codes: ['a', 'b'] })

    await store.replaceBackupCodes('ann', backupCodes(['c']), ann.generation)

    assert.equal((await store.listBackupCodes('bob')).length, 2)
  },

  async 'false, and nothing done, when 2FA is off'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    assert.equal(await store.replaceBackupCodes('ann', backupCodes(['a']), 0), false)

    assert.deepEqual(await store.listBackupCodes('ann'), [])
  },

  async 'false, and nothing done, when the generation is not `generation` any more'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b'] })
    await store.settleAttempt(byCode(user, ['a']))
    await store.raiseGeneration('ann', noon)

    assert.equal(await store.replaceBackupCodes('ann', backupCodes(['c']), user.generation), false)

    assert.equal((await store.listBackupCodes('ann')).length, 2)
    assert.deepEqual(await usedCodes(store), ['a'])
  },
}

export const listBackupCodes: Promises = {
  async 'in the order in which they were stored, used or not'(open) {
    const store = await open()
    const codes = ['m', 'z', 'a', '10', '9', 'Z', 'b', 'é', 'y', 'c', '🦄']
    const user = await enroll(store, { codes })
    await store.settleAttempt(byCode(user, ['z']))
    await store.settleAttempt(byCode(user, ['m'], { now: noon + 1 }))

    const listed = await (await open()).listBackupCodes('ann')

    assert.deepEqual(
      listed.map(({ sealedCode }) => sealedCode),
      codes.map((code) => `sealed ${code}`),
    )
    assert.deepEqual(
      listed.map(({ usedAt }) => usedAt),
      [noon + 1, noon, ...Array(9).fill(null)],
    )
  },

  async 'none where the user has none'(open) {
    assert.deepEqual(await (await open()).listBackupCodes('nobody'), [])
  },
}

export const raiseGeneration: Promises = {
  async 'each of any number at once counts'(open) {
    await race(open, (store, n) => store.raiseGeneration('ann', noon + n))

    assert.equal((await (await open()).getUser('ann')).generation, 50)
  },

  async 'ends all open challenges and refresh families of the user, and of no other'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann' })
    const bob = await enroll(store, { userId: 'bob' })
    for (const { userId, generation } of [ann, bob]) await begin(store, `family of ${userId}`, { userId, generation })

    await store.raiseGeneration('ann', noon + 60)

    assert.equal(await refusedUntil(store, { token: challengeOf(ann) }), 'stale')
    assert.deepEqual(await alive(store, ['family of ann', 'family of bob']), ['family of bob'])
    await fail(store, { userId: 'bob', token: challengeOf(bob) })
  },

  async 'drops an enrollment that waits for its first code: whoever began it may not be the owner'(open) {
    const store = await open()
    const { generation } = await enroll(store)
    await store.putPending('ann', pending('new'), generation, limits)

    await store.raiseGeneration('ann', noon + 60)

    assert.equal((await store.getStatus('ann', noon + 60, limits)).pendingUntil, null)
    assert.equal(await activate(store, { authenticatorId: 'new', generation: generation + 1 }), 'refused')
  },

  async 'sets the first second from which a proof counts later than now, and than the one before'(open) {
    const store = await open()
    const seen: number[] = []

    for (const now of [noon, noon, noon - 100, noon + 1, noon + 60]) {
      await store.raiseGeneration('ann', now)
      seen.push((await store.getUser('ann')).changedAt - noon)
    }

    assert.deepEqual(seen, [1, 2, 3, 4, 61])
  },

  async 'forgets the consecutive failures of recovery passwords and their delay, and no others, and not the total'(
    open,
  ) {
    const store = await open()
    await enroll(store)
    const locking = { ...limits, lockAfter: 5, maxPerPeriod: 7 }
    for (const method of ['recovery_password', 'totp', 'backup_code'] as const) {
      await fail(store, { method, limits: locking }, 5)
    }

    await store.raiseGeneration('ann', noon)

    await fail(store, { method: 'recovery_password', limits: locking }, 2)
    const third = await refusedUntil(store, { method: 'recovery_password', limits: locking })
    assert.ok(Number(third) > noon, `the total has been counted on: ${third}`)
    assert.equal(await refusedUntil(store, { method: 'totp', limits: locking }), 'locked')
    assert.equal(await refusedUntil(store, { method: 'backup_code', limits: locking }), 'locked')
  },

  async 'keeps the failures of recovery passwords where the password is the same'(open) {
    const store = await open()
    await enroll(store)
    const locking = { ...limits, lockAfter: 5 }
    await fail(store, { method: 'recovery_password', limits: locking }, 5)

    await store.raiseGeneration('ann', noon, { isPasswordSame: true })

    assert.equal(await refusedUntil(store, { method: 'recovery_password', limits: locking }), 'locked')
  },

  async 'tells when, so that an earlier proof proves nothing, and leaves the factors'(open) {
    const store = await open()
    await enroll(store)
    const before = await store.getStatus('ann', noon, limits)

    await store.raiseGeneration('ann', noon + 60)

    const user = { ...before.user, generation: before.user.generation + 1, changedAt: noon + 61 }
    assert.deepEqual(await store.getStatus('ann', noon, limits), { ...before, user })
  },
}

async function remove(
  store: TotpStore,
  { userId, generation }: Enrolled,
  { keepFamilyId = null, now = noon }: { keepFamilyId?: string | null; now?: number } = {},
): Promise<boolean> {
  const removal = { token: null, limits, userId, generation, keepFamilyId, now }
  return (await store.removeFactors(removal)).outcome === 'removed'
}
