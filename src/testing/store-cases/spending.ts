import assert from 'node:assert/strict'
import {
  attempt,
  byCode,
  byStep,
  challengeOf,
  changeAmidst,
  changeCredentials,
  enroll,
  firstStep,
  noon,
  type Promises,
  race,
  refusedUntil,
  reserve,
  tally,
  usedCodes,
} from '../store-fixtures.ts'

const manyCodes = Array.from({ length: 10 }, (_, n) => `code-${n}`)

export const spend: Promises = {
  async 'exactly one of any number of callers gets `spent` for a time step'(open) {
    const user = await enroll(await open())

    const answers = await race(open, (store) => store.spend(byStep(user, firstStep + 1)))

    assert.deepEqual(tally(answers), { spent: 1, refused: 49 })
  },

  async 'exactly one of any number of callers gets `spent` for a backup code'(open) {
    const user = await enroll(await open())

    const answers = await race(open, (store) => store.spend(byCode(user, ['code-1'])))

    assert.deepEqual(tally(answers), { spent: 1, refused: 49 })
  },

  async 'exactly one of any number of callers gets `spent` for a challenge, though each has a good code of its own'(
    open,
  ) {
    const store = await open()
    const codes = Array.from({ length: 49 }, (_, n) => `code-${n}`)
    const user = await enroll(store, { codes })
    const challenge = challengeOf(user)

    const answers = await race(open, (other, n) => {
      const code = codes[n - 1]
      return other.spend(code ? byCode(user, [code], { challenge }) : byStep(user, firstStep + 1, { challenge }))
    })

    assert.deepEqual(tally(answers), { spent: 1, stale: 49 })
    const codesUsed = (await usedCodes(store)).length
    const stepsUsed = (await store.spend(byStep(user, firstStep + 1))).outcome === 'refused' ? 1 : 0
    assert.equal(codesUsed + stepsUsed, 1, 'one code is used up by it')
  },

  async 'different backup codes at once are all used, and stay used'(open) {
    const store = await open()
    const user = await enroll(store, { codes: manyCodes })

    const answers = await race(open, (other, n) => other.spend(byCode(user, [`code-${n % 10}`])))

    assert.deepEqual(tally(answers), { spent: 10, refused: 40 })
    assert.deepEqual(await usedCodes(store), manyCodes)
  },

  async 'of different steps at once the latest is spent, and none up to it can be spent after'(open) {
    const store = await open()
    const user = await enroll(store)

    const answers = await race(open, (other, n) => other.spend(byStep(user, firstStep + 1 + ((n * 7) % 50))))

    const latest = Array.from(answers.keys()).find((n) => (n * 7) % 50 === 49)
    assert.equal(answers[Number(latest)]?.outcome, 'spent')
    const later = await race(open, (other, n) => other.spend(byStep(user, firstStep + 1 + n)))
    assert.deepEqual(tally(later), { refused: 50 })
  },

  async 'none is spent once the credentials have changed'(open) {
    const codes = Array.from({ length: 50 }, (_, n) => `code-${n}`)
    const user = await enroll(await open(), { codes })

    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store, n) => store.spend(byCode(user, [`code-${n}`])),
      look: usedCodes,
    })

    assert.deepEqual(after, changed)
  },

  async 'a step spends every earlier one with it'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.spend(byStep(user, firstStep + 5))

    for (const step of [firstStep + 5, firstStep + 4, firstStep + 1]) {
      assert.deepEqual(await store.spend(byStep(user, step)), { outcome: 'refused' })
    }
    assert.equal((await store.spend(byStep(user, firstStep + 6))).outcome, 'spent')
  },

  async 'refused: a step of an authenticator that the user does not have'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann' })
    const bob = await enroll(store, { userId: 'bob' })

    const answer = await store.spend(byStep({ ...bob, authenticatorId: ann.authenticatorId }, firstStep + 1))

    assert.deepEqual(answer, { outcome: 'refused' })
    assert.equal((await store.spend(byStep(ann, firstStep + 1))).outcome, 'spent', "and ann's step is untouched")
  },

  async 'refused: a backup code that is unknown, used, or of another user'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann', codes: ['code-1'] })
    const bob = await enroll(store, { userId: 'bob', codes: ['code-2'] })
    await store.spend(byCode(ann, ['code-1']))

    assert.deepEqual(await store.spend(byCode(ann, ['unknown'])), { outcome: 'refused' })
    assert.deepEqual(await store.spend(byCode(ann, [])), { outcome: 'refused' })
    assert.deepEqual(await store.spend(byCode(ann, ['code-1'])), { outcome: 'refused' })
    assert.deepEqual(await store.spend(byCode(ann, ['code-2'])), { outcome: 'refused' })
    assert.deepEqual(await usedCodes(store, bob.userId), [])
  },

  async 'one backup code is used, whichever of the digests it has'(open) {
    const store = await open()
    const user = await enroll(store)

    await store.spend(byCode(user, ['under a newer key', 'code-1', 'under an older key']))
    await store.spend(byCode(user, ['code-2', 'code-3']))

    assert.equal((await usedCodes(store)).length, 2)
  },

  async '`backupCodesRemaining` counts the unused ones after the spending'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b', 'c'] })

    const answers = [
      await store.spend(byCode(user, ['b'])),
      await store.spend(byStep(user, firstStep + 1)),
      await store.spend(byCode(user, ['a'])),
      await store.spend(byCode(user, ['c'])),
    ]

    const remaining = [2, 2, 1, 0].map((backupCodesRemaining) => ({ outcome: 'spent', backupCodesRemaining }))
    assert.deepEqual(answers, remaining)
  },

  async 'tells when the authenticator and the backup code were used'(open) {
    const store = await open()
    const user = await enroll(store)

    await store.spend(byStep(user, firstStep + 1, { now: noon + 30 }))
    await store.spend(byCode(user, ['code-1'], { now: noon + 60 }))

    const reservation = await store.reserveAttempt(attempt())
    assert.equal(reservation.outcome === 'reserved' && reservation.authenticators[0]?.lastUsedAt, noon + 30)
    assert.deepEqual(
      (await store.listBackupCodes('ann')).map(({ usedAt }) => usedAt),
      [null, noon + 60, null],
    )
  },

  async 'burns the challenge'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)

    await store.spend(byCode(user, ['code-1'], { challenge }))

    assert.deepEqual(await store.spend(byCode(user, ['code-2'], { challenge })), { outcome: 'stale' })
    assert.deepEqual(await store.spend(byStep(user, firstStep + 1, { challenge })), { outcome: 'stale' })
  },

  async 'a challenge stays burnt for as long as it is good'(open) {
    const store = await open()
    const user = await enroll(store, { codes: manyCodes })
    const challenge = challengeOf(user)
    await store.spend(byStep(user, firstStep + 1, { challenge }))

    for (const [n, code] of manyCodes.entries()) {
      const other = challengeOf(user, `challenge ${n}`, { expiresAt: noon + (n + 1) * 12 })
      await store.spend(byCode(user, [code], { challenge: other, now: other.expiresAt }))
    }

    const atTheEnd = { challenge, now: challenge.expiresAt }
    assert.deepEqual(await store.spend(byStep(user, firstStep + 2, atTheEnd)), { outcome: 'stale' })
  },

  async 'all or nothing: a refused spending does not burn the challenge'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)

    assert.deepEqual(await store.spend(byStep(user, firstStep, { challenge })), { outcome: 'refused' })
    assert.deepEqual(await store.spend(byCode(user, ['unknown'], { challenge })), { outcome: 'refused' })

    assert.equal(await store.isTokenUnused(challenge.tokenId), true)
    assert.equal((await store.spend(byStep(user, firstStep + 1, { challenge }))).outcome, 'spent')
  },

  async 'all or nothing: a stale spending spends neither step nor backup code'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)
    await store.spend(byCode(user, ['code-3'], { challenge }))

    assert.deepEqual(await store.spend(byStep(user, firstStep + 1, { challenge })), { outcome: 'stale' })
    assert.deepEqual(await store.spend(byCode(user, ['code-1'], { challenge })), { outcome: 'stale' })

    assert.equal((await store.spend(byStep(user, firstStep + 1))).outcome, 'spent')
    assert.equal((await store.spend(byCode(user, ['code-1']))).outcome, 'spent')
  },

  async 'all or nothing: a refused or stale spending leaves the attempt counted'(open) {
    const store = await open()
    const user = await enroll(store)
    await reserve(store, {}, 5)

    assert.equal((await store.spend(byStep(user, firstStep))).outcome, 'refused')
    assert.equal((await store.spend(byStep(user, firstStep + 1, { generation: 0 }))).outcome, 'stale')

    assert.equal(await refusedUntil(store), noon + 30)
  },

  async 'stale: the generation that the attempt was reserved under has moved on'(open) {
    const store = await open()
    const user = await enroll(store)
    await reserve(store)

    await store.raiseGeneration('ann', noon)

    assert.deepEqual(await store.spend(byStep(user, firstStep + 1)), { outcome: 'stale' })
    assert.deepEqual(await store.spend(byCode(user, ['code-1'])), { outcome: 'stale' })
    assert.deepEqual(await usedCodes(store), [])
  },

  async 'stale: the challenge is of an earlier generation, or has expired'(open) {
    const store = await open()
    const user = await enroll(store)
    const outdated = challengeOf(user, 'outdated', { generation: user.generation - 1 })
    const expired = challengeOf(user, 'expired', { expiresAt: noon - 1 })

    assert.deepEqual(await store.spend(byStep(user, firstStep + 1, { challenge: outdated })), { outcome: 'stale' })
    assert.deepEqual(await store.spend(byStep(user, firstStep + 1, { challenge: expired })), { outcome: 'stale' })
    const lastSecond = challengeOf(user, 'last second', { expiresAt: noon })
    assert.equal((await store.spend(byStep(user, firstStep + 1, { challenge: lastSecond }))).outcome, 'spent')
  },

  async 'stale: a user who is not known'(open) {
    const nobody = { userId: 'nobody', generation: 1, authenticatorId: 'phone', codes: [] }

    assert.deepEqual(await (await open()).spend(byStep(nobody, firstStep)), { outcome: 'stale' })
  },
}

export const isTokenUnused: Promises = {
  async 'false when the token is burnt'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.spend(byStep(user, firstStep + 1, { challenge: challengeOf(user, 'burnt') }))

    assert.equal(await (await open()).isTokenUnused('burnt'), false)
    assert.equal(await (await open()).isTokenUnused('another'), true)
  },

  async 'reads only'(open) {
    const store = await open()
    const user = await enroll(store)

    await race(open, (other) => other.isTokenUnused('challenge'))

    const answer = await store.spend(byStep(user, firstStep + 1, { challenge: challengeOf(user) }))
    assert.equal(answer.outcome, 'spent')
  },
}
