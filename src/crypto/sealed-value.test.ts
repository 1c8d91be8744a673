import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createKeyring, generateFernetKey } from './keyring.ts'
import { openValue, type SealLabel, sealValue } from './sealed-value.ts'

const noon = 1_764_331_200
const ring = createKeyring([generateFernetKey()])
const alice: SealLabel = { purpose: 'totp-secret', owner: 'alice' }

test('a value opens for its owner and purpose', () => {
  expect(openValue(ring, alice, sealValue(ring, alice, 'GEZDGNBV', noon))).toBe('GEZDGNBV')
})

test('a value copied to another user does not open', () => {
  const sealed = sealValue(ring, alice, 'GEZDGNBV', noon)

  for (const owner of ['bob', 'alic', 'alicee', 'Alice', 'alice ', '']) {
    expect(openValue(ring, { ...alice, owner }, sealed)).toBeNull()
  }
})

test('a value copied to another purpose does not open', () => {
  const sealed = sealValue(ring, alice, 'GEZDGNBV', noon)

  expect(openValue(ring, { ...alice, purpose: 'backup-code' }, sealed)).toBeNull()
  expect(openValue(ring, { ...alice, purpose: 'canary' }, sealed)).toBeNull()
})

test('a value of another deployment does not open', () => {
  const sealed = sealValue(createKeyring([generateFernetKey()]), alice, 'GEZDGNBV', noon)

  expect(openValue(ring, alice, sealed)).toBeNull()
})

test.each(['', 'GEZDGNBV', '["totp-secret","alice","GEZDGNBV"]', '{}', '\ud800'])(
  '"%s" is not a sealed value',
  (text) => {
    expect(openValue(ring, alice, text)).toBeNull()
  },
)

test('the token inside is as old as it was said to be, so that a change of keys can tell old from new', () => {
  expect(ring.open(sealValue(ring, alice, 'GEZDGNBV', noon))?.sealedAt).toBe(noon)
})

test('a value sealed with an old key opens after a new one came first', () => {
  const [oldKey, newKey] = [generateFernetKey(), generateFernetKey()]
  const sealed = sealValue(createKeyring([oldKey]), alice, 'GEZDGNBV', noon)

  expect(openValue(createKeyring([newKey, oldKey]), alice, sealed)).toBe('GEZDGNBV')
  expect(openValue(createKeyring([newKey]), alice, sealed)).toBeNull()
})

describe('owners and values made to be confused', () => {
  const purposes = fc.constantFrom<SealLabel['purpose']>('totp-secret', 'backup-code', 'canary')
  const texts = fc.oneof(
    fc.string({ unit: fc.constantFrom('"', ',', '[', ']', '\\', ' ', '\n', 'a'), maxLength: 8 }),
    fc.string({ unit: 'grapheme', maxLength: 8 }),
    // Lone surrogates too: JSON writes them as escapes.
    fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 4 }).map((units) => String.fromCharCode(...units)),
    fc.constantFrom('alice","x', 'alice","', '","', '"],["', 'alice\\', 'alice\\"', '\\u0022', '__proto__'),
  )

  test('a value opens for exactly its own owner and purpose', () => {
    fc.assert(
      fc.property(purposes, texts, texts, purposes, texts, (purpose, owner, value, otherPurpose, otherOwner) => {
        const sealed = sealValue(ring, { purpose, owner }, value, noon)

        const opened = openValue(ring, { purpose: otherPurpose, owner: otherOwner }, sealed)

        expect(openValue(ring, { purpose, owner }, sealed)).toBe(value)
        expect(opened).toBe(purpose === otherPurpose && owner === otherOwner ? value : null)
      }),
      { numRuns: 500 },
    )
  })

  test('an owner that ends as another owner with a value begins is not that owner', () => {
    fc.assert(
      fc.property(texts, texts, (owner, value) => {
        const joined = { ...alice, owner: `${owner}","${value}` }

        expect(openValue(ring, { ...alice, owner }, sealValue(ring, joined, 'x', noon))).toBeNull()
        expect(openValue(ring, joined, sealValue(ring, { ...alice, owner }, `${value}","x`, noon))).toBeNull()
      }),
    )
  })
})
