import assert from 'node:assert/strict'
import {
  activate,
  attempt,
  byCode,
  byStep,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
  race,
  recordOf,
  wrong,
} from '../store-fixtures.ts'

export const getUser: Promises = {
  async 'a user never heard of has generation 0 and no second factor'(open) {
    const store = await open()

    assert.deepEqual(await store.getUser('nobody'), { generation: 0, changedAt: 0, confirmedAt: null })
  },

  async 'the generation never falls and outlives the factors'(open) {
    const store = await open()
    const seen: number[] = []

    for (let n = 0; n < 3; n++) {
      const { generation } = await enroll(store)
      await store.removeFactors({ limits, userId: 'ann', generation, token: null, keepFamilyId: null, now: noon })
      await store.raiseGeneration('ann', noon)
      seen.push((await store.getUser('ann')).generation)
    }

    assert.deepEqual(seen, [3, 6, 9])
  },

  async 'every connection sees a change as soon as it is made'(open) {
    const [writer, reader] = [await open(), await open()]

    for (let generation = 1; generation <= 5; generation++) {
      await writer.raiseGeneration('ann', noon)
      assert.equal((await reader.getUser('ann')).generation, generation)
    }
  },
}

export const getStatus: Promises = {
  async 'a user never heard of has nothing'(open) {
    assert.deepEqual(await (await open()).getStatus('nobody', noon, limits), {
      user: { generation: 0, changedAt: 0, confirmedAt: null },
      authenticators: [],
      backupCodesRemaining: 0,
      backupCodesSavedAt: null,
      pendingUntil: null,
      trustedDevices: 0,
      lockedUntil: null,
    })
  },

  async '`pendingUntil`: until when an enrollment waits for its first code; null when it has expired'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone', { expiresAt: noon + 900 }), 0, limits)

    assert.equal((await store.getStatus('ann', noon + 899, limits)).pendingUntil, noon + 900)
    assert.equal((await store.getStatus('ann', noon + 900, limits)).pendingUntil, null)
  },

  async '`backupCodesRemaining` counts the unused ones'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['a', 'b', 'c'] })

    await store.settleAttempt(byCode(user, ['b']))

    assert.equal((await store.getStatus('ann', noon, limits)).backupCodesRemaining, 2)
  },

  async '`lockedUntil`: app codes are refused until then, or forever'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 4)
    assert.equal((await store.getStatus('ann', noon, limits)).lockedUntil, null)

    await fail(store)

    assert.equal((await store.getStatus('ann', noon, limits)).lockedUntil, noon + 30)
    assert.equal((await store.getStatus('ann', noon + 29, limits)).lockedUntil, noon + 30)
    assert.equal((await store.getStatus('ann', noon + 30, limits)).lockedUntil, null)
    assert.equal((await store.getStatus('ann', noon + 30, { ...limits, lockAfter: 5 })).lockedUntil, 'forever')
  },

  async '`lockedUntil` of a total is the time at which an attempt is admitted again'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, {}, 3)

    const { lockedUntil } = await store.getStatus('ann', noon, { ...limits, maxPerPeriod: 3 })

    const refused = await store.settleAttempt(wrong({ limits: { ...limits, maxPerPeriod: 3 } }))
    assert.deepEqual(refused, { outcome: 'delayed', retryAt: lockedUntil })
    await fail(store, { now: Number(lockedUntil), limits: { ...limits, maxPerPeriod: 3 } })
  },

  async '`lockedUntil` tells nothing of backup codes'(open) {
    const store = await open()
    await enroll(store)
    await fail(store, { method: 'backup_code' }, 5)

    assert.equal((await store.getStatus('ann', noon, limits)).lockedUntil, null)
  },

  async 'reads only: asking counts no attempt'(open) {
    const store = await open()
    await enroll(store)

    await race(open, (other) => other.getStatus('ann', noon, limits))

    await fail(store, {}, 5)
  },
}

export const keepKeyCheck: Promises = {
  async 'of many that start on an empty store, all get the same'(open) {
    const kept = await race(open, (store, n) => store.keepKeyCheck(`canary of ${n}`))

    assert.equal(new Set(kept).size, 1)
    assert.match(String(kept[0]), /^canary of \d+$/)
  },

  async 'keeps the first and gives it back ever after'(open) {
    assert.equal(await (await open()).keepKeyCheck('first 🐤'), 'first 🐤')
    assert.equal(await (await open()).keepKeyCheck('second'), 'first 🐤')
  },
}

/** Ids that a database may take for one another, or for a part of a statement. */
const oddIds = [
  'ann',
  'Ann',
  'ann ',
  ' ann',
  'ann\t',
  'ánn',
  'a\u0301nn',
  'ａｎｎ',
  "ann' OR '1'='1",
  'ann"; DROP TABLE totp_user; --',
  'ann\\',
  '%',
  '_nn',
  ':userId',
  '?',
  '$1',
  '0',
  '00',
  '0e0',
  'null',
  'strasse',
  'straße',
  'i',
  'ı',
  '🦄',
  '🦄🦄',
  'x'.repeat(254),
  'x'.repeat(255),
  '字'.repeat(255),
  '🦄'.repeat(255),
]

export const values: Promises = {
  async 'two ids that differ in anything are two users'(open) {
    const store = await open()

    for (const [n, userId] of oddIds.entries()) {
      await enroll(store, { userId, phone: `phone ${n}`, codes: Array.from({ length: n }, (_, i) => `code ${i}`) })
    }

    for (const [n, userId] of oddIds.entries()) {
      const { user, authenticators, backupCodesRemaining } = await store.getStatus(userId, noon, limits)
      assert.equal(user.generation, 1, userId)
      assert.deepEqual(
        authenticators.map(({ id }) => id),
        [`phone ${n}, 0`],
      )
      assert.equal(backupCodesRemaining, n, userId)
    }
  },

  async 'one user has a budget, and a family, that another with a like id has not'(open) {
    const store = await open()
    for (const userId of ['ann', 'Ann', 'ann ']) await enroll(store, { userId })
    await fail(store, { userId: 'ann' }, 5)
    await store.openFamily({ id: 'f', userId: 'ann', tokenId: 't', expiresAt: noon + 60 }, 1, noon)

    await store.raiseGeneration('Ann', noon)
    await store.raiseGeneration('ann ', noon)

    await fail(store, { userId: 'Ann' }, 5)
    await fail(store, { userId: 'ann ' }, 5)
    assert.equal(await store.isFamilyAlive('f', 't', noon), true)
    assert.equal(await store.isFamilyAlive('F', 't', noon), false)
    assert.equal(await store.isFamilyAlive('f', 'T', noon), false)
  },

  async 'digests and tokens that differ in case only are two'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['abc', 'ABC'] })
    const challenge = { tokenId: 'token', generation: user.generation, expiresAt: noon }

    await store.settleAttempt(byCode(user, ['ABC'], { token: challenge }))

    assert.deepEqual(
      (await store.listBackupCodes('ann')).map(({ usedAt }) => usedAt),
      [null, noon],
    )
    assert.equal(await store.isTokenUnused('TOKEN'), true)
  },

  async 'what goes in comes out: Unicode names, no name, long secrets, late times'(open) {
    const store = await open()
    const year9999 = 253_402_300_799
    const authenticators = [
      { name: 'Ann’s 📱 – Nº 1; "it\'s" \\ <b>', sealedSecret: 'x'.repeat(4000) },
      { name: null, sealedSecret: 'gAAAAA-_==' },
      { name: '', sealedSecret: '字', parameters: { algorithm: 'SHA512', digits: 8, periodSeconds: 120 } as const },
      { name: ' 15 ', createdAt: year9999, expiresAt: year9999 + 900 },
    ]

    for (const [generation, differing] of authenticators.entries()) {
      const phone = pending(`phone ${generation}`, differing)
      await store.putPending('ann', phone, generation, limits)
      const first = await store.readFactors(attempt({ against: 'pending' }))
      await activate(store, { authenticatorId: `phone ${generation}`, generation })
      const { authenticators: live } = await (await open()).getStatus('ann', noon, limits)

      assert.deepEqual(first.outcome === 'open' && first.authenticators, [recordOf(phone)])
      assert.deepEqual(live, [recordOf(phone, { lastUsedAt: noon })])
    }
  },

  async 'late times and steps are told apart to the second'(open) {
    const store = await open()
    const late = 253_402_300_799
    await store.putPending('ann', pending('phone', { expiresAt: late + 1 }), 0, limits)
    await activate(store, { authenticatorId: 'phone', generation: 0, step: late, now: late })
    const user = { userId: 'ann', authenticatorId: 'phone', generation: 1, codes: [] }

    assert.deepEqual(await store.getUser('ann'), { generation: 1, changedAt: late + 1, confirmedAt: late })
    assert.equal((await store.settleAttempt(byStep(user, late, { now: late }))).outcome, 'spent_before')
    assert.equal((await store.settleAttempt(byStep(user, late + 1, { now: late }))).outcome, 'spent')
    await fail(store, { now: late }, 5)
    assert.equal((await store.getStatus('ann', late, limits)).lockedUntil, late + 30)
  },

  async 'a backup code that is kept hashed has no sealed code'(open) {
    const store = await open()
    const user = await enroll(store)

    await store.replaceBackupCodes('ann', [{ digest: 'a', sealedCode: null }], user.generation)

    assert.deepEqual(await store.listBackupCodes('ann'), [{ sealedCode: null, usedAt: null }])
  },

  async 'what was handed in or out can be changed by its holder without changing the store'(open) {
    const store = await open()
    const mine = pending('phone')
    const parameters = { ...mine.parameters }
    await store.putPending('ann', { ...mine, parameters }, 0, limits)
    parameters.digits = 8
    await activate(store, { authenticatorId: 'phone', generation: 0, step: firstStep })

    const { authenticators } = await store.getStatus('ann', noon, limits)
    for (const authenticator of authenticators) authenticator.parameters.digits = 7

    const again = await store.getStatus('ann', noon, limits)
    assert.equal(again.authenticators[0]?.parameters.digits, 6)
  },
}
