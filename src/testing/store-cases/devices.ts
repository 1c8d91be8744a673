import assert from 'node:assert/strict'
import {
  activate,
  DAY,
  device,
  devicesOf,
  enroll,
  limits,
  noon,
  type Promises,
  pending,
  race,
  rotateDevice,
  tally,
} from '../store-fixtures.ts'

export const keepTrustedDevice: Promises = {
  async 'keeps a device; what goes in comes out'(open) {
    const store = await open()
    await store.raiseGeneration('bob', noon)
    const devices = [
      device('laptop', { name: 'Ann’s 💻 – Nº 1; "it\'s" \\ <b>' }),
      device('unnamed', { name: null, createdAt: noon - 1, lastUsedAt: noon + 1, expiresAt: noon + 2 }),
    ]

    for (const kept of devices) assert.equal(await store.keepTrustedDevice(kept, 0), true)
    assert.equal(await store.keepTrustedDevice(device("bob's", { userId: 'bob' }), 1), true)

    assert.deepEqual(await (await open()).listTrustedDevices('ann', noon), devices)
    assert.deepEqual(await store.listTrustedDevices('bob', noon), [device("bob's", { userId: 'bob' })])
  },

  async 'any number at once are all kept'(open) {
    const store = await open()
    await enroll(store)

    const kept = await race(open, (other, n) => other.keepTrustedDevice(device(`device ${n}`), 1))

    assert.deepEqual(tally(kept), { true: 50 })
    assert.equal((await devicesOf(store)).length, 50)
  },

  async "false, and nothing done, when the user's generation is not `generation` any more"(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)

    assert.equal(await store.keepTrustedDevice(device('laptop'), 0), false)

    assert.deepEqual(await devicesOf(store), [])
    assert.equal(await rotateDevice(store, 'laptop', { generation: 1 }), 'dead')
  },

  async 'no device outlives a rise of the generation that races with its keeping'(open) {
    const store = await open()

    await race(open, async (other, n) => {
      if (n === 7) await other.raiseGeneration('ann', noon)
      else await other.keepTrustedDevice(device(`device ${n}`), 0)
    })

    assert.deepEqual(await devicesOf(store), [])
  },
}

export const rotateTrustedDevice: Promises = {
  async 'exactly one of any number of callers rotates a token, and the copies end the device'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)

    const answers = await race(open, (other, n) => rotateDevice(other, 'laptop', { newTokenDigest: `of caller ${n}` }))

    assert.deepEqual(tally(answers), { rotated: 1, dead: 49 })
    const newTokenDigest = `of caller ${answers.indexOf('rotated')}`
    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: newTokenDigest }), 'dead')
    assert.deepEqual(await devicesOf(store), [])
  },

  async 'the new token is the living one, and the last one is not any more'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)

    assert.equal(await rotateDevice(store, 'laptop', { newTokenDigest: 'second', now: noon + 60 }), 'rotated')
    const second = device('laptop', { tokenDigest: 'second', lastUsedAt: noon + 60 })
    assert.deepEqual(await (await open()).listTrustedDevices('ann', noon), [second])
    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: 'second', newTokenDigest: 'third' }), 'rotated')

    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: 'second' }), 'dead')
    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: 'third' }), 'dead', 'the copy has ended the device')
  },

  async 'a token that is not the living one ends its device, and no other'(open) {
    const store = await open()
    for (const id of ['laptop', 'tablet']) await store.keepTrustedDevice(device(id), 0)

    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: 'token of tablet' }), 'dead')
    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: 'TOKEN OF LAPTOP' }), 'dead')

    assert.deepEqual(await devicesOf(store), ['tablet'])
  },

  async 'dead from the second in which the device expires'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop', { expiresAt: noon + DAY }), 0)

    const next = { newTokenDigest: 'second', now: noon + DAY - 1 }
    assert.equal(await rotateDevice(store, 'laptop', next), 'rotated')
    assert.equal(await rotateDevice(store, 'laptop', { tokenDigest: 'second', now: noon + DAY }), 'dead')
  },

  async "dead when the user's generation is not `generation` any more"(open) {
    const store = await open()
    for (const id of ['laptop', 'tablet']) await store.keepTrustedDevice(device(id), 0)

    assert.equal(await rotateDevice(store, 'tablet', { generation: 1 }), 'dead')
    await store.raiseGeneration('ann', noon)

    assert.equal(await rotateDevice(store, 'laptop', { generation: 0 }), 'dead')
    assert.equal(await rotateDevice(store, 'laptop', { generation: 1 }), 'dead')
  },

  async 'dead when the device is unknown or of another user, whose device lives on'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)

    assert.equal(await rotateDevice(store, 'unknown'), 'dead')
    assert.equal(await rotateDevice(store, 'laptop', { userId: 'bob' }), 'dead')

    assert.equal(await rotateDevice(store, 'laptop'), 'rotated')
  },

  async 'a rotation that races with a rise of the generation leaves no living device'(open) {
    const store = await open()
    const ids = Array.from({ length: 50 }, (_, n) => `device ${n}`)
    for (const id of ids) await store.keepTrustedDevice(device(id), 0)

    await race(open, async (other, n) => {
      if (n === 7) await other.raiseGeneration('ann', noon)
      else await rotateDevice(other, `device ${n}`)
    })

    assert.deepEqual(await devicesOf(store), [])
  },
}

export const listTrustedDevices: Promises = {
  async 'the living devices of the user, the newest first'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('second', { createdAt: noon - 20 }), 0)
    await store.keepTrustedDevice(device('third', { createdAt: noon - 10 }), 0)
    await store.keepTrustedDevice(device('first', { createdAt: noon - 30, expiresAt: noon }), 0)

    assert.deepEqual(await devicesOf(store, 'ann', noon - 1), ['third', 'second', 'first'])
    assert.deepEqual(await devicesOf(store, 'ann', noon), ['third', 'second'])
    assert.deepEqual(await devicesOf(store, 'bob', noon - 1), [])
  },

  async '`trustedDevices` of the status counts them'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('expired', { expiresAt: noon }), 0)
    for (const id of ['laptop', 'tablet']) await store.keepTrustedDevice(device(id), 0)

    assert.equal((await store.getStatus('ann', noon, limits)).trustedDevices, 2)
    assert.equal((await store.getStatus('bob', noon, limits)).trustedDevices, 0)
  },

  async 'what was handed in or out can be changed by its holder without changing the store'(open) {
    const store = await open()
    const mine = device('laptop')
    await store.keepTrustedDevice(mine, 0)
    mine.name = 'mine'
    for (const listed of await store.listTrustedDevices('ann', noon)) listed.name = 'listed'

    assert.deepEqual(await store.listTrustedDevices('ann', noon), [device('laptop')])
  },
}

export const endTrustedDevice: Promises = {
  async 'exactly one of any number of callers ends a device, and no other device'(open) {
    const store = await open()
    for (const id of ['laptop', 'tablet']) await store.keepTrustedDevice(device(id), 0)

    const answers = await race(open, (other) => other.endTrustedDevice('ann', 'laptop'))

    assert.deepEqual(tally(answers), { true: 1, false: 49 })
    assert.deepEqual(await devicesOf(store), ['tablet'])
    assert.equal(await rotateDevice(store, 'laptop'), 'dead')
  },

  async 'false when the user has none by that id'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)

    assert.equal(await store.endTrustedDevice('ann', 'unknown'), false)
    assert.equal(await store.endTrustedDevice('bob', 'laptop'), false)

    assert.deepEqual(await devicesOf(store), ['laptop'])
  },

  async 'a rotation that races with the end leaves no living device'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)

    await race(open, async (other, n) => {
      if (n === 1) await other.endTrustedDevice('ann', 'laptop')
      else await rotateDevice(other, 'laptop')
    })

    assert.deepEqual(await devicesOf(store), [])
  },
}

/** Of whatever raises the generation. */
export const endDevices: Promises = {
  async 'ends all trusted devices of the user, and of no other'(open) {
    const store = await open()
    await store.keepTrustedDevice(device('laptop'), 0)
    await store.keepTrustedDevice(device("bob's", { userId: 'bob' }), 0)

    await store.raiseGeneration('ann', noon)

    assert.deepEqual([await devicesOf(store, 'ann'), await devicesOf(store, 'bob')], [[], ["bob's"]])
  },

  async 'trusted devices end with a new authenticator, and with the factors'(open) {
    const store = await open()
    const user = await enroll(store)
    await store.keepTrustedDevice(device('laptop'), 1)
    await store.putPending('ann', pending('new'), 1, limits)
    await activate(store, { authenticatorId: 'new', generation: 1, maxAuthenticators: 5 })
    assert.deepEqual(await devicesOf(store), [])

    await store.keepTrustedDevice(device('tablet'), 2)
    await store.removeFactors({ ...user, generation: 2, token: null, keepFamilyId: null, now: noon, limits })

    assert.deepEqual(await devicesOf(store), [])
  },
}
