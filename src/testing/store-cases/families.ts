import assert from 'node:assert/strict'
import { alive, begin, DAY, noon, type Promises, race, raise, rotate, tally } from '../store-fixtures.ts'

export const openFamily: Promises = {
  async 'begins a family under `generation`'(open) {
    const store = await open()
    await begin(store, 'of a new user')
    await store.raiseGeneration('bob', noon)
    await begin(store, 'of bob', { userId: 'bob', generation: 1 })

    assert.deepEqual(await alive(await open(), ['of a new user', 'of bob']), ['of a new user', 'of bob'])
  },

  async 'it is dead from the start when the generation has moved on'(open) {
    const store = await open()
    await store.raiseGeneration('ann', noon)

    await begin(store, 'family', { generation: 0 })

    assert.deepEqual(await alive(store, ['family']), [])
    assert.equal(await rotate(store, 'family'), 'dead')
  },

  async 'any number begin at once, and each is alive'(open) {
    await race(open, (store, n) => begin(store, `family ${n}`))

    const ids = Array.from({ length: 50 }, (_, n) => `family ${n}`)
    assert.deepEqual(await alive(await open(), ids), ids)
  },
}

export const rotateFamily: Promises = {
  async 'makes the new token the living one in the place of the old'(open) {
    const store = await open()
    await begin(store, 'family')

    assert.equal(await rotate(store, 'family', { newTokenId: 'second' }), 'rotated')

    assert.equal(await store.isFamilyAlive('family', 'second', noon), true)
    assert.equal(await store.isFamilyAlive('family', 'token of family', noon), false)
    assert.equal(await rotate(store, 'family', { tokenId: 'second', newTokenId: 'third' }), 'rotated')
  },

  async 'exactly one caller gets `rotated` for a token, and the others have ended the family'(open) {
    const store = await open()
    await begin(store, 'family')

    const answers = await race(open, (other, n) => rotate(other, 'family', { newTokenId: `token of caller ${n}` }))

    assert.deepEqual(tally(answers), { rotated: 1, dead: 49 })
    assert.deepEqual(await alive(store, ['family']), [])
    const newTokenId = `token of caller ${answers.indexOf('rotated')}`
    assert.equal(await rotate(store, 'family', { tokenId: newTokenId }), 'dead')
  },

  async 'a token that is not the living one ends the family'(open) {
    const store = await open()
    await begin(store, 'family')
    await begin(store, 'another')
    await rotate(store, 'family', { newTokenId: 'second' })

    assert.equal(await rotate(store, 'family', { tokenId: 'token of family' }), 'dead')

    assert.deepEqual(await alive(store, ['family', 'another']), ['another'])
    assert.equal(await rotate(store, 'family', { tokenId: 'second' }), 'dead')
  },

  async 'a token of another family ends the family that it was presented to, and no other'(open) {
    const store = await open()
    await begin(store, 'family')
    await begin(store, 'another')

    assert.equal(await rotate(store, 'family', { tokenId: 'token of another' }), 'dead')

    assert.deepEqual(await alive(store, ['family', 'another']), ['another'])
  },

  async 'dead when the family has expired, and the new token expires when it says'(open) {
    const store = await open()
    await begin(store, 'expired', { expiresAt: noon + DAY })
    await begin(store, 'family', { expiresAt: noon + DAY })

    assert.equal(await rotate(store, 'expired', { now: noon + DAY }), 'dead')
    assert.equal(await rotate(store, 'family', { now: noon + DAY - 1, expiresAt: noon + 2 * DAY }), 'rotated')
    assert.deepEqual(await alive(store, ['family'], noon + 2 * DAY - 1), ['family'])
    assert.equal(await rotate(store, 'family', { tokenId: 'next', now: noon + 2 * DAY }), 'dead')
  },

  async "dead when the family has ended, was never begun, or the user's generation has moved on"(open) {
    const store = await open()
    await begin(store, 'ended')
    await store.endFamily('ended')
    await begin(store, 'outdated')
    await store.raiseGeneration('ann', noon)

    for (const family of ['ended', 'outdated', 'unknown']) assert.equal(await rotate(store, family), 'dead')
  },

  async 'a rotation that races with a change of credentials leaves no living family'(open) {
    const store = await open()
    const ids = Array.from({ length: 50 }, (_, n) => `family ${n}`)
    for (const id of ids) await begin(store, id)

    await race(open, async (other, n) => {
      if (n === 25) await other.raiseGeneration('ann', noon)
      else await rotate(other, `family ${n}`)
    })

    assert.deepEqual(await alive(store, ids), [])
  },
}

export const raiseFamily: Promises = {
  async 'makes the new token the living one, whatever was living before, until when it says'(open) {
    const store = await open()
    await begin(store, 'family')
    await rotate(store, 'family')

    assert.equal(await raise(store, 'family', { expiresAt: noon + 3 * DAY }), true)

    assert.equal(await store.isFamilyAlive('family', 'next', noon), false)
    assert.equal(await (await open()).isFamilyAlive('family', 'raised', noon + 3 * DAY - 1), true)
    assert.equal(await store.isFamilyAlive('family', 'raised', noon + 3 * DAY), false)
    assert.equal(await rotate(store, 'family', { tokenId: 'raised', newTokenId: 'after' }), 'rotated')
  },

  async 'false, and nothing done, when the family has ended, has expired, was never begun, or belongs to another user'(
    open,
  ) {
    const store = await open()
    await begin(store, 'ended')
    await store.endFamily('ended')
    await begin(store, 'expired')
    await begin(store, 'of bob', { userId: 'bob' })

    assert.equal(await raise(store, 'ended'), false)
    assert.equal(await raise(store, 'unknown'), false)
    assert.equal(await raise(store, 'expired', { now: noon + DAY }), false)
    assert.equal(await raise(store, 'of bob'), false)

    assert.deepEqual(await alive(store, ['ended', 'unknown', 'expired', 'of bob']), ['expired', 'of bob'])
    assert.equal(await store.isFamilyAlive('of bob', 'token of of bob', noon), true)
  },

  async "false, and nothing done, when the user's generation is not `generation`"(open) {
    const store = await open()
    await begin(store, 'family')
    assert.equal(await raise(store, 'family', { generation: 1 }), false)
    assert.equal(await store.isFamilyAlive('family', 'token of family', noon), true)
    await store.raiseGeneration('ann', noon)

    for (const generation of [0, 1]) assert.equal(await raise(store, 'family', { generation }), false)
    assert.deepEqual(await alive(store, ['family']), [])
  },

  async 'a raise that races with a change of credentials leaves no living family'(open) {
    const store = await open()
    const ids = Array.from({ length: 50 }, (_, n) => `family ${n}`)
    for (const id of ids) await begin(store, id)

    await race(open, async (other, n) => {
      if (n === 25) await other.raiseGeneration('ann', noon)
      else await raise(other, `family ${n}`)
    })

    assert.deepEqual(await alive(store, ids), [])
  },

  async 'of a raise and a rotation at once, one token is left alive, or the family has ended'(open) {
    const store = await open()
    await begin(store, 'family')

    await race(open, async (other, n) => {
      if (n === 25) await raise(other, 'family')
      else if (n === 24) await rotate(other, 'family')
    })

    assert.equal(await store.isFamilyAlive('family', 'token of family', noon), false)
  },
}

export const isFamilyAlive: Promises = {
  async 'true while the family is alive and, when a token is given, that is its living one'(open) {
    const store = await open()
    await begin(store, 'family')

    assert.equal(await store.isFamilyAlive('family', null, noon), true)
    assert.equal(await store.isFamilyAlive('family', 'token of family', noon), true)
    assert.equal(await store.isFamilyAlive('family', 'another token', noon), false)
    assert.equal(await store.isFamilyAlive('family', '', noon), false)
    assert.equal(await store.isFamilyAlive('unknown', null, noon), false)
  },

  async 'false from the second in which it expires'(open) {
    const store = await open()
    await begin(store, 'family', { expiresAt: noon + DAY })

    assert.equal(await store.isFamilyAlive('family', null, noon + DAY - 1), true)
    assert.equal(await store.isFamilyAlive('family', null, noon + DAY), false)
    assert.equal(await store.isFamilyAlive('family', 'token of family', noon + DAY), false)
  },

  async "false when the user's generation has moved on"(open) {
    const store = await open()
    await begin(store, 'family')

    await store.raiseGeneration('ann', noon)

    assert.equal(await store.isFamilyAlive('family', null, noon), false)
    assert.equal(await store.isFamilyAlive('family', 'token of family', noon), false)
  },

  async 'changes nothing: asking with a wrong token does not end the family'(open) {
    const store = await open()
    await begin(store, 'family')

    await race(open, (other) => other.isFamilyAlive('family', 'another token', noon))

    assert.equal(await rotate(store, 'family'), 'rotated')
  },
}

export const endFamily: Promises = {
  async 'ends the family, and no other'(open) {
    const store = await open()
    await begin(store, 'family')
    await begin(store, 'another')

    await store.endFamily('family')

    assert.deepEqual(await alive(await open(), ['family', 'another']), ['another'])
  },

  async 'nothing happens when it has ended before'(open) {
    const store = await open()
    await begin(store, 'family')

    await race(open, (other) => other.endFamily('family'))
    await store.endFamily('unknown')

    assert.deepEqual(await alive(store, ['family']), [])
  },

  async 'a rotation that races with the end leaves no living family'(open) {
    const store = await open()
    await begin(store, 'family')

    await race(open, (other, n) =>
      n === 1 ? other.endFamily('family') : rotate(other, 'family').then(() => undefined),
    )

    assert.deepEqual(await alive(store, ['family']), [])
  },
}
