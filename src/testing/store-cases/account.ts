import assert from 'node:assert/strict'
import {
  add,
  alive,
  backupCodes,
  begin,
  byStep,
  device,
  devicesOf,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  type Promises,
  pending,
} from '../store-fixtures.ts'

export const forgetUser: Promises = {
  async 'deletes everything of the user, failures included, and nothing of another'(open) {
    const store = await open()
    const user = await enroll(store)
    const bob = await enroll(store, { userId: 'bob' })
    await fail(store, { method: 'totp' }, 5)
    await store.putPending('ann', pending('new'), user.generation, limits)
    await store.keepTrustedDevice(device('laptop'), user.generation)
    await begin(store, 'family', { generation: user.generation })

    await store.forgetUser('ann', noon)

    const nothing = await store.getStatus('nobody', noon, limits)
    const { user: left, ...status } = await store.getStatus('ann', noon, limits)
    assert.deepEqual({ ...status, user: nothing.user }, nothing)
    assert.deepEqual([left.generation, left.confirmedAt], [user.generation + 1, null])
    assert.deepEqual(await store.listBackupCodes('ann'), [])
    assert.deepEqual(await devicesOf(store), [])
    assert.deepEqual(await alive(store, ['family']), [])
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 0)
    assert.equal((await store.settleAttempt(byStep(bob, firstStep + 1))).outcome, 'spent')
  },

  async 'the generation rises, of a user never heard of too: what was handed out before stays dead'(open) {
    const store = await open()

    await store.forgetUser('nobody', noon)
    await store.forgetUser('nobody', noon)

    assert.equal((await (await open()).getUser('nobody')).generation, 2)
    assert.equal(await store.putPending('nobody', pending('phone'), 0, limits), false)
  },
}

export const getStatuses: Promises = {
  async 'says of each what `getStatus` says, in the order of the ids'(open) {
    const store = await open()
    const user = await enroll(store)
    await add(store, user, 'second')
    await fail(store, { method: 'totp' }, 5)
    await store.putPending('bob', pending('half enrolled'), 0, limits)
    const carl = await enroll(store, { userId: 'Carl "ä" 😀' })
    await store.replaceBackupCodes(carl.userId, backupCodes(['a', 'b']), carl.generation)
    await store.keepTrustedDevice(device('laptop', { userId: carl.userId }), carl.generation)
    const ids = ['nobody', carl.userId, 'bob', 'ann', 'Ann', 'ann ']

    const statuses = await (await open()).getStatuses(ids, noon, limits)

    const single: unknown[] = []
    for (const id of ids) single.push(await store.getStatus(id, noon, limits))
    assert.deepEqual(statuses, single)
  },

  async 'of five hundred users at once'(open) {
    const store = await open()
    await enroll(store, { userId: 'user 499' })

    const statuses = await store.getStatuses(
      Array.from({ length: 500 }, (_, n) => `user ${n}`),
      noon,
      limits,
    )

    assert.deepEqual([statuses.length, statuses.findIndex(({ user }) => user.confirmedAt !== null)], [500, 499])
  },
}
