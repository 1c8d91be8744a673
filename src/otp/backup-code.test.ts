import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BACKUP_CODE_BYTES, formatBackupCode, readBackupCode } from './backup-code.ts'
import { looksLikeTotpCode } from './typed-code.ts'

const randomBytes = fc.uint8Array({ minLength: BACKUP_CODE_BYTES, maxLength: BACKUP_CODE_BYTES })

describe('formatBackupCode', () => {
  test('a backup code is four groups of four, in letters and digits that are not taken for each other', () => {
    fc.assert(
      fc.property(randomBytes, (bytes) => {
        expect(formatBackupCode(bytes)).toMatch(/^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}$/)
      }),
    )
  })

  test('every byte stands for a character, in the order of Crockford', () => {
    const from0 = Uint8Array.from({ length: 16 }, (_, index) => index)
    const from16 = Uint8Array.from({ length: 16 }, (_, index) => index + 16)

    expect(formatBackupCode(from0)).toBe('0123-4567-89AB-CDEF')
    expect(formatBackupCode(from16)).toBe('GHJK-MNPQ-RSTV-WXYZ')
  })

  test('no character is likelier than another: each of the 32 stands for 8 of the 256 bytes', () => {
    const counts = new Map<string, number>()
    for (let byte = 0; byte < 256; byte++) {
      const letter = formatBackupCode(new Uint8Array(16).fill(byte)).charAt(0)
      counts.set(letter, (counts.get(letter) ?? 0) + 1)
    }

    expect(counts.size).toBe(32)
    expect(new Set(counts.values())).toEqual(new Set([8]))
  })

  test('five bits of each byte count, 80 bits together: a change of one of them is another code', () => {
    const bitOfCode = fc.record({ byte: fc.nat({ max: 15 }), bit: fc.nat({ max: 4 }) })
    fc.assert(
      fc.property(randomBytes, bitOfCode, (bytes, { byte, bit }) => {
        const other = bytes.map((value, index) => (index === byte ? value ^ (1 << bit) : value))

        expect(formatBackupCode(other)).not.toBe(formatBackupCode(bytes))
      }),
    )
  })

  test.each([0, 15, 17])('%i random bytes are a bug in the caller', (length) => {
    expect(() => formatBackupCode(new Uint8Array(length))).toThrow(
      new RangeError('a backup code requires 16 random bytes'),
    )
  })
})

describe('readBackupCode', () => {
  test.each([
    ['as it was shown', '7K3M-9QXR-0VJD-F21A'],
    ['without hyphens', '7K3M9QXR0VJDF21A'],
    ['in lower case', '7k3m-9qxr-0vjd-f21a'],
    ['with spaces', ' 7K3M 9QXR 0VJD F21A '],
    ['with en dashes', '7K3M–9QXR–0VJD–F21A'],
    ['with no-break spaces', '7K3M\u00a09QXR\u00a00VJD\u00a0F21A'],
    ['in full-width letters', '７Ｋ３Ｍ－９ＱＸＲ－０ＶＪＤ－Ｆ２１Ａ'],
    ['with the letter O for 0', '7K3M-9QXR-OVJD-F21A'],
    ['with a small o for 0', '7k3m-9qxr-ovjd-f21a'],
    ['with I for 1', '7K3M-9QXR-0VJD-F2IA'],
    ['with a small i for 1', '7k3m-9qxr-0vjd-f2ia'],
    ['with L for 1', '7K3M-9QXR-0VJD-F2LA'],
    ['with a small l for 1', '7k3m-9qxr-0vjd-f2la'],
  ])('%s', (_what, typed) => {
    expect(readBackupCode(typed)).toBe('7K3M9QXR0VJDF21A')
  })

  test('a wrong character is another code, never a forgiven one', () => {
    expect(readBackupCode('7K3M-9QXR-0VJD-F21U')).toBe('7K3M9QXR0VJDF21U')
    expect(readBackupCode('7K3M.9QXR.0VJD.F21A')).toBe('7K3M.9QXR.0VJD.F21A')
  })

  const spellings: Record<string, string[]> = { '0': ['0', 'O', 'o'], '1': ['1', 'I', 'i', 'L', 'l'] }
  const spellingOf = (letter: string) => fc.constantFrom(...(spellings[letter] ?? [letter, letter.toLowerCase()]))
  const noise = fc.string({ unit: fc.constantFrom(' ', '-', '–', '\u00a0'), maxLength: 2 })

  test('a code keeps its one spelling under any case, spaces, hyphens and look-alike letters', () => {
    const typings = randomBytes.map(formatBackupCode).chain((shown) =>
      fc.record({
        shown: fc.constant(shown),
        typed: fc
          .tuple(...[...shown].flatMap((letter) => [noise, spellingOf(letter)]), noise)
          .map((parts) => parts.join('')),
      }),
    )
    fc.assert(
      fc.property(typings, ({ shown, typed }) => {
        const read = readBackupCode(typed)

        expect(read).toBe(shown.replaceAll('-', ''))
        expect(readBackupCode(read)).toBe(read)
      }),
    )
  })

  test('two codes never have one spelling', () => {
    fc.assert(
      fc.property(randomBytes, randomBytes, (one, other) => {
        const [shown, otherShown] = [formatBackupCode(one), formatBackupCode(other)]

        expect(readBackupCode(shown) === readBackupCode(otherShown)).toBe(shown === otherShown)
      }),
    )
  })

  test('a backup code does not look like the code of an app, even when it has digits only', () => {
    const digitsOnly = fc.uint8Array({ minLength: 16, maxLength: 16, max: 9 })
    fc.assert(
      fc.property(fc.oneof(randomBytes, digitsOnly), (bytes) => {
        expect(looksLikeTotpCode(formatBackupCode(bytes))).toBe(false)
      }),
    )
  })
})
