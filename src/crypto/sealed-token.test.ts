import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createKeyring, generateFernetKey } from './keyring.ts'
import { tokenSealer } from './sealed-token.ts'

const noon = 1_764_331_200
const keyring = createKeyring([generateFernetKey()])
const issuer = 'Acme'
const challenges = tokenSealer(keyring, { kind: 'login-challenge', issuer }, 300)
const claims = { id: 'c-1', userId: 'alice', generation: 7 }

test('a token says what it was sealed with, and when it ends', () => {
  const token = challenges.seal(claims, noon)

  expect(challenges.open(token, noon + 10)).toEqual({ ...claims, expiresAt: noon + 300 })
  expect(challenges.ttlSeconds).toBe(300)
})

test('what a kind of token says besides comes back with it, also when it is empty', () => {
  for (const more of ['device-1', '']) {
    const token = challenges.seal({ ...claims, more }, noon)

    expect(challenges.open(token, noon)).toEqual({ ...claims, more, expiresAt: noon + 300 })
  }
})

test('a token that says nothing besides has no member for it', () => {
  expect(challenges.open(challenges.seal(claims, noon), noon)).not.toHaveProperty('more')
})

test('a token is good at exactly its ttl and dead one second later', () => {
  const token = challenges.seal(claims, noon)

  expect(challenges.open(token, noon + 300)).toEqual({ ...claims, expiresAt: noon + 300 })
  expect(challenges.open(token, noon + 301)).toBeNull()
})

test('a token from another clock is good up to 60 s ahead of ours', () => {
  const token = challenges.seal(claims, noon + 60)

  expect(challenges.open(token, noon)).toEqual({ ...claims, expiresAt: noon + 360 })
  expect(challenges.open(token, noon - 1)).toBeNull()
})

test('a token of another kind does not open, in neither direction', () => {
  const enrollments = tokenSealer(keyring, { kind: 'enrollment', issuer }, 300)

  expect(enrollments.open(challenges.seal(claims, noon), noon)).toBeNull()
  expect(challenges.open(enrollments.seal(claims, noon), noon)).toBeNull()
})

test('a token of another deployment does not open', () => {
  const elsewhere = tokenSealer(createKeyring([generateFernetKey()]), { kind: 'login-challenge', issuer }, 300)

  expect(challenges.open(elsewhere.seal(claims, noon), noon)).toBeNull()
})

test('a token of another service under the same key does not open, in neither direction', () => {
  for (const other of ['Acme staging', 'acme', 'Acme/', '']) {
    const elsewhere = tokenSealer(keyring, { kind: 'login-challenge', issuer: other }, 300)

    expect(challenges.open(elsewhere.seal(claims, noon), noon)).toBeNull()
    expect(elsewhere.open(challenges.seal(claims, noon), noon)).toBeNull()
  }
})

test('what the keyring itself sealed is no token', () => {
  const sealed = keyring.seal(JSON.stringify([claims.id, claims.userId, claims.generation]), noon)

  expect(challenges.open(sealed, noon)).toBeNull()
})

test('a token opens after a new key came first', () => {
  const [oldKey, newKey] = [generateFernetKey(), generateFernetKey()]
  const token = tokenSealer(createKeyring([oldKey]), { kind: 'login-challenge', issuer }, 300).seal(claims, noon)

  const rotated = tokenSealer(createKeyring([newKey, oldKey]), { kind: 'login-challenge', issuer }, 300)

  expect(rotated.open(token, noon)).toEqual({ ...claims, expiresAt: noon + 300 })
})

test('a token does not show whose it is', () => {
  const token = challenges.seal({ ...claims, userId: 'alice-in-clear' }, noon)

  expect(Buffer.from(token, 'base64url').toString('latin1')).not.toContain('alice-in-clear')
})

describe('for any claims', () => {
  const anyClaims = fc.record({
    id: fc.string({ unit: 'grapheme' }),
    userId: fc.string({ unit: 'grapheme' }),
    generation: fc.nat(),
  })

  test('they come back as they were', () => {
    fc.assert(
      fc.property(anyClaims, fc.nat(), (claims, at) => {
        expect(challenges.open(challenges.seal(claims, at), at)).toEqual({ ...claims, expiresAt: at + 300 })
      }),
    )
  })

  test('a token with any character changed does not open', () => {
    const letters = fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=')
    fc.assert(
      fc.property(anyClaims, fc.nat(), letters, (claims, place, letter) => {
        const token = challenges.seal(claims, noon)
        const index = place % token.length
        fc.pre(token.charAt(index) !== letter)

        expect(challenges.open(token.slice(0, index) + letter + token.slice(index + 1), noon)).toBeNull()
      }),
    )
  })
})

test.each(['', 'null', '[]', '["c-1","alice",7]', 'gAAAAA==', '\ud800'])('"%s" is no token', (text) => {
  expect(challenges.open(text, noon)).toBeNull()
})
