import assert from 'node:assert/strict'
import type { TotpStore } from '../../store/store.ts'
import {
  activate,
  add,
  backupCodes,
  device,
  devicesOf,
  enroll,
  limits,
  noon,
  type Promises,
  pending,
  recordOf,
} from '../store-fixtures.ts'

/** The enrollment that waits, for whoever began it. */
export const getPending: Promises = {
  async 'gives back what was put, and the session that began it'(open) {
    const store = await open()
    const phone = pending('phone', { sessionDigest: 'digest of a session' })
    await store.putPending('ann', phone, 0, limits)

    assert.deepEqual(await store.getPending('ann', noon), phone)
    assert.equal(await store.getPending('bob', noon), null)
  },

  async 'null: none, or it has expired'(open) {
    const store = await open()
    assert.equal(await store.getPending('ann', noon), null)

    await store.putPending('ann', pending('phone', { expiresAt: noon + 900 }), 0, limits)

    assert.equal((await store.getPending('ann', noon + 899))?.id, 'phone')
    assert.equal(await store.getPending('ann', noon + 900), null)
  },

  async 'null after a change of credentials, and once it is live'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)
    await store.raiseGeneration('ann', noon)
    assert.equal(await store.getPending('ann', noon), null)

    await store.putPending('ann', pending('phone'), 1, limits)
    await activate(store, { authenticatorId: 'phone', generation: 1 })

    assert.equal(await store.getPending('ann', noon), null)
  },
}

export const renameAuthenticator: Promises = {
  async 'gives one authenticator another name, and changes nothing else'(open) {
    const store = await open()
    const user = await enroll(store)
    const second = await add(store, user, 'second', { createdAt: noon - 30 })
    const before = await store.getStatus('ann', noon, limits)

    const renamed = await store.renameAuthenticator('ann', 'second', 'Tablet')

    assert.deepEqual(
      renamed,
      recordOf(pending('second', { createdAt: noon - 30, name: 'Tablet' }), { lastUsedAt: noon }),
    )
    const [first] = before.authenticators
    assert.deepEqual((await store.getStatus('ann', noon, limits)).authenticators, [first, renamed])
    assert.equal((await store.getUser('ann')).generation, second.generation)
    assert.deepEqual(await store.renameAuthenticator('ann', 'second', 'Tablet'), renamed, 'the same name again')
  },

  async 'null when the user has none by that id'(open) {
    const store = await open()
    const { authenticatorId } = await enroll(store)
    await enroll(store, { userId: 'bob' })
    await store.putPending('bob', pending('waiting'), 1, limits)

    assert.equal(await store.renameAuthenticator('bob', authenticatorId, 'Mine'), null)
    assert.equal(await store.renameAuthenticator('bob', 'waiting', 'Mine'), null)
    assert.equal((await store.getStatus('ann', noon, limits)).authenticators[0]?.name, 'Phone')
  },
}

const savedAt = async (store: TotpStore) => (await store.getStatus('ann', noon, limits)).backupCodesSavedAt

export const noteBackupCodesSaved: Promises = {
  async 'notes when, and other codes forget it'(open) {
    const store = await open()
    const { generation } = await enroll(store)
    assert.equal(await savedAt(store), null)

    await store.noteBackupCodesSaved('ann', noon + 7)
    assert.equal(await savedAt(store), noon + 7)

    await store.replaceBackupCodes('ann', backupCodes(['new']), generation)
    assert.equal(await savedAt(store), null)
  },

  async 'stays when an authenticator is added, and goes with the factors'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.noteBackupCodesSaved('ann', noon)

    const { generation } = await add(store, user, 'second')
    assert.equal(await savedAt(store), noon)

    await store.removeFactors({ limits, userId: 'ann', generation, token: null, keepFamilyId: null, now: noon })
    assert.equal(await savedAt(store), null)
  },

  async 'does nothing where 2FA is off'(open) {
    const store = await open()
    await store.putPending('ann', pending('phone'), 0, limits)

    await store.noteBackupCodesSaved('ann', noon)
    await store.noteBackupCodesSaved('nobody', noon)

    assert.equal(await savedAt(store), null)
  },
}

export const endTrustedDevices: Promises = {
  async 'ends all devices of the user, and of no other'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)
    await store.keepTrustedDevice(device('tablet'), 0)
    await store.keepTrustedDevice(device('of bob', { userId: 'bob' }), 0)

    assert.equal(await store.endTrustedDevices('ann'), 2)

    assert.deepEqual(await devicesOf(store), [])
    assert.deepEqual(await devicesOf(store, 'bob'), ['of bob'])
    assert.equal(await store.endTrustedDevices('ann'), 0)
  },
}
