import fc from 'fast-check'
import { expect, test } from 'vitest'
import recorded from '../../test/vectors/keyring-python.json' with { type: 'json' }
import { backupCodeDigests } from './digest.ts'
import { createKeyring, generateFernetKey } from './keyring.ts'

const keys = createKeyring([generateFernetKey(), generateFernetKey()]).deriveMacKeys('backup-code')
const code = '7K3M9QXR0VJDF2TA'

test('a code has one digest for each key, in the order of the keys', () => {
  const digests = backupCodeDigests(keys, 'alice', code)

  expect(digests).toEqual(keys.flatMap((key) => backupCodeDigests([key], 'alice', code)))
  expect(new Set(digests).size).toBe(2)
  for (const digest of digests) expect(digest).toMatch(/^[\w-]{43}$/)
})

test('the same code of the same user has the same digests', () => {
  expect(backupCodeDigests(keys, 'alice', code)).toEqual(backupCodeDigests(keys, 'alice', code))
})

test('no digest is shared by two users or by two codes, even with names made to run into each other', () => {
  const names = fc.oneof(
    fc.string({ unit: fc.constantFrom('"', ',', '[', ']', '\\', ' ', 'a'), maxLength: 6 }),
    fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 4 }).map((units) => String.fromCharCode(...units)),
  )
  fc.assert(
    fc.property(names, names, names, names, (user, code, otherUser, otherCode) => {
      const same = user === otherUser && code === otherCode

      const [digests, others] = [backupCodeDigests(keys, user, code), backupCodeDigests(keys, otherUser, otherCode)]

      expect(digests.some((digest) => others.includes(digest))).toBe(same)
    }),
    { numRuns: 500 },
  )
})

test('the border between user and code counts', () => {
  expect(backupCodeDigests(keys, 'ab', 'c')).not.toEqual(backupCodeDigests(keys, 'a', 'bc'))
})

test('the digests are as recorded, so that codes stored by an earlier release are still good', () => {
  const { userId, code, base64url } = recorded.digests
  const recordedKeys = createKeyring(recorded.keys).deriveMacKeys(recorded.purpose)

  expect(backupCodeDigests(recordedKeys, userId, code)).toEqual(base64url)
})
