import assert from 'node:assert/strict'
import {
  alive,
  attempt,
  byCode,
  byStep,
  challengeOf,
  changeAmidst,
  changeCredentials,
  enroll,
  fail,
  firstStep,
  noon,
  type Promises,
  race,
  tally,
  usedCodes,
} from '../store-fixtures.ts'

const manyCodes = Array.from({ length: 10 }, (_, n) => `code-${n}`)

export const settle: Promises = {
  async 'exactly one of any number of callers gets `spent` for a time step'(open) {
    const user = await enroll(await open())

    const answers = await race(open, (store) => store.settleAttempt(byStep(user, firstStep + 1)))

    assert.deepEqual(tally(answers), { spent: 1, spent_before: 49 })
  },

  async 'exactly one of any number of callers gets `spent` for a backup code'(open) {
    const user = await enroll(await open())

    const answers = await race(open, (store) => store.settleAttempt(byCode(user, ['code-1'])))

    assert.deepEqual(tally(answers), { spent: 1, wrong: 49 })
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
      return other.settleAttempt(
        code ? byCode(user, [code], { token: challenge }) : byStep(user, firstStep + 1, { token: challenge }),
      )
    })

    assert.deepEqual(tally(answers), { spent: 1, stale: 49 })
    const codesUsed = (await usedCodes(store)).length
    const stepsUsed = (await store.settleAttempt(byStep(user, firstStep + 1))).outcome === 'spent_before' ? 1 : 0
    assert.equal(codesUsed + stepsUsed, 1, 'one code is used up by it')
  },

  async 'different backup codes at once are all used, and stay used'(open) {
    const store = await open()
    const user = await enroll(store, { codes: manyCodes })

    const answers = await race(open, (other, n) => other.settleAttempt(byCode(user, [`code-${n % 10}`])))

    assert.deepEqual(tally(answers), { spent: 10, wrong: 40 })
    assert.deepEqual(await usedCodes(store), manyCodes)
  },

  async 'of different steps at once the latest is spent, and none up to it can be spent after'(open) {
    const store = await open()
    const user = await enroll(store)

    const answers = await race(open, (other, n) => other.settleAttempt(byStep(user, firstStep + 1 + ((n * 7) % 50))))

    const latest = Array.from(answers.keys()).find((n) => (n * 7) % 50 === 49)
    assert.equal(answers[Number(latest)]?.outcome, 'spent')
    const later = await race(open, (other, n) => other.settleAttempt(byStep(user, firstStep + 1 + n)))
    assert.deepEqual(tally(later), { spent_before: 50 })
  },

  async 'none is spent once the credentials have changed'(open) {
    const codes = Array.from({ length: 50 }, (_, n) => `code-${n}`)
    const user = await enroll(await open(), { codes })

    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store, n) => store.settleAttempt(byCode(user, [`code-${n}`])),
      look: usedCodes,
    })

    assert.deepEqual(after, changed)
  },

  async 'a step spends every earlier one with it'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.settleAttempt(byStep(user, firstStep + 5))

    for (const step of [firstStep + 5, firstStep + 4, firstStep + 1]) {
      assert.equal((await store.settleAttempt(byStep(user, step))).outcome, 'spent_before')
    }
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 6))).outcome, 'spent')
  },

  async 'wrong: a step of an authenticator that the user does not have'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann' })
    const bob = await enroll(store, { userId: 'bob' })

    const answer = await store.settleAttempt(byStep({ ...bob, authenticatorId: ann.authenticatorId }, firstStep + 1))

    assert.equal(answer.outcome, 'wrong')
    assert.equal(
      (await store.settleAttempt(byStep(ann, firstStep + 1))).outcome,
      'spent',
      "and ann's step is untouched",
    )
  },

  async 'wrong: a backup code that is unknown, used, or of another user'(open) {
    const store = await open()
    const ann = await enroll(store, { userId: 'ann', codes: ['code-1'] })
    const bob = await enroll(store, { userId: 'bob', codes: ['code-2'] })
    await store.settleAttempt(byCode(ann, ['code-1']))

    assert.equal((await store.settleAttempt(byCode(ann, ['unknown']))).outcome, 'wrong')
    assert.equal((await store.settleAttempt(byCode(ann, []))).outcome, 'wrong')
    assert.equal((await store.settleAttempt(byCode(ann, ['code-1']))).outcome, 'wrong')
    assert.equal((await store.settleAttempt(byCode(ann, ['code-2']))).outcome, 'wrong')
    assert.deepEqual(await usedCodes(store, bob.userId), [])
  },

  async 'one backup code is used, whichever of the digests it has'(open) {
    const store = await open()
    const user = await enroll(store)

    await store.settleAttempt(byCode(user, ['under a newer key', 'code-1', 'under an older key']))
    await store.settleAttempt(byCode(user, ['code-2', 'code-3']))

    assert.equal((await usedCodes(store)).length, 2)
  },

  async '`backupCodesRemaining` counts the unused ones after it, where a backup code was spent'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b', 'c'] })

    const answers = [
      await store.settleAttempt(byCode(user, ['b'])),
      await store.settleAttempt(byStep(user, firstStep + 1)),
      await store.settleAttempt(byCode(user, ['a'])),
      await store.settleAttempt(byCode(user, ['c'])),
    ]

    const remaining = [2, null, 1, 0].map((backupCodesRemaining) => ({ outcome: 'spent', backupCodesRemaining }))
    assert.deepEqual(answers, remaining)
  },

  async 'tells when the authenticator and the backup code were used'(open) {
    const store = await open()
    const user = await enroll(store)

    await store.settleAttempt(byStep(user, firstStep + 1, { now: noon + 30 }))
    await store.settleAttempt(byCode(user, ['code-1'], { now: noon + 60 }))

    const factors = await store.readFactors(attempt())
    assert.equal(factors.outcome === 'open' && factors.authenticators[0]?.lastUsedAt, noon + 30)
    assert.deepEqual(
      (await store.listBackupCodes('ann')).map(({ usedAt }) => usedAt),
      [null, noon + 60, null],
    )
  },

  async 'burns the challenge'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)

    await store.settleAttempt(byCode(user, ['code-1'], { token: challenge }))

    assert.deepEqual(await store.settleAttempt(byCode(user, ['code-2'], { token: challenge })), { outcome: 'stale' })
    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge })), { outcome: 'stale' })
  },

  async 'a challenge stays burnt for as long as it is good'(open) {
    const store = await open()
    const user = await enroll(store, { codes: manyCodes })
    const challenge = challengeOf(user)
    await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge }))

    for (const [n, code] of manyCodes.entries()) {
      const other = challengeOf(user, `challenge ${n}`, { expiresAt: noon + (n + 1) * 12 })
      await store.settleAttempt(byCode(user, [code], { token: other, now: other.expiresAt }))
    }

    const atTheEnd = { token: challenge, now: challenge.expiresAt }
    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 2, atTheEnd)), { outcome: 'stale' })
  },

  async 'all or nothing: a refused spending does not burn the challenge'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)

    assert.equal((await store.settleAttempt(byStep(user, firstStep, { token: challenge }))).outcome, 'spent_before')
    assert.equal((await store.settleAttempt(byCode(user, ['unknown'], { token: challenge }))).outcome, 'wrong')

    assert.equal(await store.isTokenUnused(challenge.tokenId), true)
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge }))).outcome, 'spent')
  },

  async 'all or nothing: a stale spending spends neither step nor backup code'(open) {
    const store = await open()
    const user = await enroll(store)
    const challenge = challengeOf(user)
    await store.settleAttempt(byCode(user, ['code-3'], { token: challenge }))

    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge })), { outcome: 'stale' })
    assert.deepEqual(await store.settleAttempt(byCode(user, ['code-1'], { token: challenge })), { outcome: 'stale' })

    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
    assert.equal((await store.settleAttempt(byCode(user, ['code-1']))).outcome, 'spent')
  },

  async 'opens the family with the success, and with nothing else'(open) {
    const store = await open()
    const user = await enroll(store)
    const family = (id: string) => ({ id, userId: 'ann', tokenId: `token of ${id}`, expiresAt: noon + 3600 })
    const challenge = challengeOf(user)

    await store.settleAttempt(byStep(user, firstStep, { family: family('replayed') }))
    await store.settleAttempt(byCode(user, ['unknown'], { family: family('wrong') }))
    await store.settleAttempt(byStep(user, firstStep + 1, { generation: 0, family: family('stale') }))
    await store.settleAttempt(byStep(user, firstStep + 1, { token: challenge, family: family('first') }))
    await store.settleAttempt(byCode(user, ['code-1'], { token: challenge, family: family('second') }))
    await store.settleAttempt(byCode(user, ['code-2'], { family: family('third') }))

    const ids = ['replayed', 'wrong', 'stale', 'first', 'second', 'third']
    assert.deepEqual(await alive(store, ids), ['first', 'third'])
    await store.raiseGeneration('ann', noon)
    assert.deepEqual(await alive(store, ids), [], 'and it is of the generation of the attempt')
  },

  async 'stale: the generation that the attempt was judged under has moved on'(open) {
    const store = await open()
    const user = await enroll(store)
    await fail(store)

    await store.raiseGeneration('ann', noon)

    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 1)), { outcome: 'stale' })
    assert.deepEqual(await store.settleAttempt(byCode(user, ['code-1'])), { outcome: 'stale' })
    assert.deepEqual(await usedCodes(store), [])
  },

  async 'stale: the challenge is of an earlier generation, or has expired'(open) {
    const store = await open()
    const user = await enroll(store)
    const outdated = challengeOf(user, 'outdated', { generation: user.generation - 1 })
    const expired = challengeOf(user, 'expired', { expiresAt: noon - 1 })

    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 1, { token: outdated })), { outcome: 'stale' })
    assert.deepEqual(await store.settleAttempt(byStep(user, firstStep + 1, { token: expired })), { outcome: 'stale' })
    const lastSecond = challengeOf(user, 'last second', { expiresAt: noon })
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1, { token: lastSecond }))).outcome, 'spent')
  },

  async 'stale: a user who is not known'(open) {
    const nobody = { userId: 'nobody', generation: 1, authenticatorId: 'phone', codes: [] }

    assert.deepEqual(await (await open()).settleAttempt(byStep(nobody, firstStep)), { outcome: 'stale' })
  },
}

export const isTokenUnused: Promises = {
  async 'false when the token is burnt'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.settleAttempt(byStep(user, firstStep + 1, { token: challengeOf(user, 'burnt') }))

    assert.equal(await (await open()).isTokenUnused('burnt'), false)
    assert.equal(await (await open()).isTokenUnused('another'), true)
  },

  async 'reads only'(open) {
    const store = await open()
    const user = await enroll(store)

    await race(open, (other) => other.isTokenUnused('challenge'))

    const answer = await store.settleAttempt(byStep(user, firstStep + 1, { token: challengeOf(user) }))
    assert.equal(answer.outcome, 'spent')
  },
}
