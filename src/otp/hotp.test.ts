import { createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import * as otpauth from 'otpauth'
import { generateSync } from 'otplib'
import { describe, expect, test } from 'vitest'
import rfc4226 from '../../test/vectors/rfc4226.json' with { type: 'json' }
import { hotp, type OtpAlgorithm } from './hotp.ts'

const secret = createSecretKey(Buffer.from(rfc4226.secret))

describe('the vectors of RFC 4226 appendix D', () => {
  test.each(rfc4226.codes)('count $count is $hotp', ({ count, hotp: code }) => {
    expect(hotp(secret, count, { algorithm: 'SHA1', digits: 6 })).toBe(code)
  })

  test.each([6, 7, 8])('%i digits are the last ones of the truncated number, leading zeros kept', (digits) => {
    for (const { count, truncated } of rfc4226.codes) {
      const code = hotp(secret, count, { algorithm: 'SHA1', digits })

      expect(code).toHaveLength(digits)
      expect(code).toBe(String(truncated).padStart(10, '0').slice(-digits))
    }
  })
})

const algorithm = fc.constantFrom<OtpAlgorithm>('SHA1', 'SHA256', 'SHA512')
const digits = fc.constantFrom<6 | 7 | 8>(6, 7, 8)
// otplib takes secrets of 16 to 64 bytes.
const secretBytes = fc.uint8Array({ minLength: 16, maxLength: 64 })
const pastThirtyTwoBits = fc.integer({ min: 2 ** 32, max: Number.MAX_SAFE_INTEGER })

describe('otpauth and otplib make the same code', () => {
  test.each([
    ['a counter of up to 32 bits', fc.integer({ min: 0, max: 2 ** 32 - 1 })],
    ['a counter of more than 32 bits', pastThirtyTwoBits],
  ])('%s', (_what, counters) => {
    fc.assert(
      fc.property(secretBytes, counters, algorithm, digits, (bytes, counter, algorithm, digits) => {
        const code = hotp(createSecretKey(bytes), counter, { algorithm, digits })

        expect(code).toBe(otpauthHotp(bytes, counter, algorithm, digits))
        expect(code).toBe(otplibHotp(bytes, counter, algorithm, digits))
      }),
    )
  })

  test.each([2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 33 + 2 ** 31, Number.MAX_SAFE_INTEGER])(
    'counter %i, where a 32-bit shift goes wrong',
    (counter) => {
      const code = hotp(secret, counter, { algorithm: 'SHA1', digits: 8 })

      expect(code).toBe(otpauthHotp(Buffer.from(rfc4226.secret), counter, 'SHA1', 8))
      expect(code).toBe(otplibHotp(Buffer.from(rfc4226.secret), counter, 'SHA1', 8))
    },
  )
})

test('the high half of the counter counts: 2^32 + 1 is not 1', () => {
  const eightDigits = { algorithm: 'SHA1', digits: 8 } as const

  expect(hotp(secret, 2 ** 32 + 1, eightDigits)).not.toBe(hotp(secret, 1, eightDigits))
})

test.each([-1, 0.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY])(
  'the counter %d is a bug in the caller',
  (counter) => {
    expect(() => hotp(secret, counter, { algorithm: 'SHA1', digits: 6 })).toThrow(
      new RangeError('HOTP counter must be an integer of at least 0'),
    )
  },
)

function otpauthHotp(bytes: Uint8Array, counter: number, algorithm: OtpAlgorithm, digits: number): string {
  // A copy, because `buffer` of a Node Buffer is a pool that holds other bytes too.
  const secret = new otpauth.Secret({ buffer: Uint8Array.from(bytes).buffer })
  return otpauth.HOTP.generate({ secret, counter, algorithm, digits })
}

function otplibHotp(bytes: Uint8Array, counter: number, algorithm: OtpAlgorithm, digits: 6 | 7 | 8): string {
  const peerAlgorithm = ({ SHA1: 'sha1', SHA256: 'sha256', SHA512: 'sha512' } as const)[algorithm]
  return generateSync({ strategy: 'hotp', secret: Uint8Array.from(bytes), counter, algorithm: peerAlgorithm, digits })
}
