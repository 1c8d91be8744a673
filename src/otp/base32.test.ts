import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import rfc4648 from '../../test/vectors/rfc4648.json' with { type: 'json' }
import { decodeBase32, encodeBase32 } from './base32.ts'

describe('the vectors of RFC 4648 §10', () => {
  test.each(rfc4648.vectors)('"$text" is $base32', ({ text, base32 }) => {
    const unpadded = base32.replaceAll('=', '')

    expect(encodeBase32(Buffer.from(text))).toBe(unpadded)
    expect(Buffer.from(decodeBase32(base32)).toString()).toBe(text)
    expect(Buffer.from(decodeBase32(unpadded)).toString()).toBe(text)
  })
})

test('bytes come back from their base32, which is upper case without padding', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      const text = encodeBase32(bytes)

      expect(text).toMatch(/^[A-Z2-7]*$/)
      expect(decodeBase32(text)).toEqual(bytes)
    }),
  )
})

test('a secret of 20 bytes is 32 letters', () => {
  expect(encodeBase32(Buffer.from('12345678901234567890'))).toBe('GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ')
})

describe('a text that is not the one spelling of its bytes is refused', () => {
  test.each([
    ['bits left over that are not zero (RFC 4648 §3.5)', 'MZ'],
    ['bits left over that are not zero, padded', 'MZ======'],
    ['one letter, a length that no bytes have', 'M'],
    ['three letters, a length that no bytes have', 'MZX'],
    ['six letters, a length that no bytes have', 'MZXW6Y'],
    ['six letters padded to a group', 'MZXW6Y=='],
    ['padding that does not fill the group', 'MY=='],
    ['padding beyond the group', 'MY======='],
    ['padding of a group that is full', 'MZXW6YTB='],
    ['a group of nothing but padding', '========'],
    ['a group of padding after a full group', 'MZXW6YTB========'],
    ['a group of padding after a padded group', 'MY=============='],
    ['padding in the middle', 'MY======MY======'],
    ['lower case', 'my'],
    ['a space', 'MZXW 6YTB'],
    ['a hyphen', 'MZXW-6YTB'],
    ['a line break at the end', 'MZXW6YTB\n'],
    ['the digit 0', 'MZXW0YTB'],
    ['the digit 1', 'MZXW1YTB'],
    ['the digit 8', 'MZXW8YTB'],
    ['a full-width letter', 'MZXW6YTＢ'],
    ['a letter of two UTF-16 units', 'MZXW6YT𝐁'],
  ])('%s', (_what, text) => {
    expect(() => decodeBase32(text)).toThrow(RangeError)
    expect(() => decodeBase32(text)).toThrow(/^base32 /)
  })
})

test('whatever text is accepted, its letters are those that encoding its bytes gives', () => {
  const almostBase32 = fc.string({ unit: fc.constantFrom(...'ABMQYZ2456=='), maxLength: 16 })
  fc.assert(
    fc.property(almostBase32, (text) => {
      const bytes = orRefused(() => decodeBase32(text))

      if (bytes !== 'refused') {
        const letters = encodeBase32(bytes)
        expect([letters, letters.padEnd(Math.ceil(letters.length / 8) * 8, '=')]).toContain(text)
      }
    }),
    { numRuns: 2000 },
  )
})

test('the refusal does not repeat the secret', () => {
  const mistyped = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1'

  expect(() => decodeBase32(mistyped)).toThrow(/^base32 may contain only the characters A-Z and 2-7$/)
})

function orRefused<T>(act: () => T): T | 'refused' {
  try {
    return act()
  } catch {
    return 'refused'
  }
}
