import assert from 'node:assert/strict'
import type { TotpStore } from '../../store/store.ts'
import {
  alive,
  backupCodes,
  begin,
  byCode,
  byStep,
  changeAmidst,
  changeCredentials,
  enroll,
  firstStep,
  limits,
  liveOnes,
  noon,
  type Promises,
  pending,
  race,
  recordOf,
  tally,
  usedCodes,
} from '../store-fixtures.ts'

export const importAuthenticator: Promises = {
  async 'puts it as it was, switches 2FA on as of its `createdAt`, and raises the generation'(open) {
    const store = await open()
    const parameters = { algorithm: 'SHA512', digits: 8, periodSeconds: 60 } as const
    const authenticator = brought('phone', { name: null, parameters, createdAt: noon - 500, lastUsedAt: noon - 60 })
    await store.putPending('ann', pending('half enrolled'), 0, limits)

    assert.equal(await put(store, { authenticator, backupCodes: backupCodes(['a', 'b']) }), 'first')

    assert.deepEqual(await store.getUser('ann'), { generation: 1, changedAt: noon + 1, confirmedAt: noon - 500 })
    const status = await store.getStatus('ann', noon, limits)
    assert.deepEqual(status.authenticators, [{ ...authenticator, driftSteps: 0, resyncStep: null }])
    assert.equal(status.backupCodesRemaining, 2)
    assert.equal((await store.listBackupCodes('ann')).length, 2)
  },

  async '`lastStep` and all earlier ones are spent, and the next one is not'(open) {
    const store = await open()
    await put(store, { lastStep: firstStep })
    const user = { userId: 'ann', generation: 1, authenticatorId: 'phone', codes: [] }

    assert.equal((await store.settleAttempt(byStep(user, firstStep))).outcome, 'spent_before')
    assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
  },

  async 'exactly one of any number at once under one generation is put'(open) {
    const answers = await race(open, (store, n) => put(store, { authenticator: brought(`phone ${n}`) }))

    assert.deepEqual(tally(answers), { first: 1, stale: 49 })
    assert.deepEqual(await liveOnes(await open()), [`phone ${answers.indexOf('first')}`])
  },

  async 'none is put once the credentials have changed'(open) {
    const { changed, after } = await changeAmidst(open, {
      change: changeCredentials,
      call: (store, n) => put(store, { authenticator: brought(`phone ${n}`) }),
      look: (store) => store.getStatus('ann', noon, limits),
    })

    assert.deepEqual(after, changed)
  },

  async '`full`, and nothing done, where `maxAuthenticators` are live'(open) {
    const store = await open()
    const user = await enroll(store)
    const before = await store.getStatus('ann', noon, limits)

    assert.equal(await put(store, { generation: user.generation }), 'full')

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
  },

  async '`added` beside a live one: 2FA is on since then, and the backup codes stay'(open) {
    const store = await open()
    const user = await enroll(store, { codes: ['old'] })

    const addition = { generation: user.generation, maxAuthenticators: 2, backupCodes: backupCodes(['new']) }
    assert.equal(await put(store, addition), 'added')

    assert.equal((await store.getUser('ann')).confirmedAt, noon)
    assert.deepEqual((await liveOnes(store)).sort(), ['phone', user.authenticatorId])
    const spending = byCode({ ...user, generation: user.generation + 1 }, ['old'])
    assert.equal((await store.settleAttempt(spending)).outcome, 'spent')
    assert.deepEqual(await usedCodes(store), ['old'])
  },

  async 'no refresh family survives'(open) {
    const store = await open()
    await begin(store, 'family')

    await put(store)

    assert.deepEqual(await alive(store, ['family']), [])
  },
}

type Import = Parameters<TotpStore['importAuthenticator']>[0]

function brought(id: string, differing: Partial<Import['authenticator']> = {}): Import['authenticator'] {
  const { driftSteps: _, resyncStep: __, ...record } = recordOf(pending(id))
  return { ...record, ...differing }
}

/** Brings in Ann's only phone at noon, where nothing else is said. */
function put(store: TotpStore, differing: Partial<Import> = {}): ReturnType<TotpStore['importAuthenticator']> {
  const usual = { userId: 'ann', authenticator: brought('phone'), lastStep: 0, maxAuthenticators: 1, generation: 0 }
  return store.importAuthenticator({ ...usual, backupCodes: null, now: noon, ...differing })
}
