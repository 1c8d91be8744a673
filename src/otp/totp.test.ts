import { createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import * as otpauth from 'otpauth'
import { generateSync, verifySync } from 'otplib'
import { describe, expect, test } from 'vitest'
import rfc6238 from '../../test/vectors/rfc6238.json' with { type: 'json' }
import { hotp, type OtpAlgorithm } from './hotp.ts'
import { matchStep, stepAt, totpAt } from './totp.ts'

const { periodSeconds } = rfc6238
const algorithms = ['SHA1', 'SHA256', 'SHA512'] as const satisfies OtpAlgorithm[]

describe.each(algorithms)('the vectors of RFC 6238 appendix B for %s', (algorithm) => {
  const secret = createSecretKey(Buffer.from(rfc6238.secrets[algorithm]))

  test.each(rfc6238.rows)('at $time s, step $step', (row) => {
    const parameters = { algorithm, digits: rfc6238.digits, periodSeconds }

    expect(stepAt(row.time, periodSeconds)).toBe(row.step)
    expect(totpAt(secret, row.time, parameters)).toBe(row[algorithm])
    expect(matchStep(secret, row[algorithm], row.time, { ...parameters, window: 0 })).toBe(row.step)
  })

  test.each(rfc6238.rows)('with 6 and 7 digits the code at $time s is the end of the one with 8', (row) => {
    for (const digits of [6, 7]) {
      expect(totpAt(secret, row.time, { algorithm, digits, periodSeconds })).toBe(row[algorithm].slice(-digits))
    }
  })
})

describe('otpauth and otplib agree', () => {
  const phone = fc.record({
    bytes: fc.uint8Array({ minLength: 16, maxLength: 64 }),
    // The upper half lies beyond 32 bits, and so does the counter when the period is 1.
    at: fc.oneof(fc.integer({ min: 0, max: 2 ** 32 }), fc.integer({ min: 2 ** 32, max: 2 ** 42 })),
    algorithm: fc.constantFrom(...algorithms),
    digits: fc.constantFrom<6 | 7 | 8>(6, 7, 8),
    periodSeconds: fc.oneof(fc.constantFrom(1, 15, 30, 60), fc.integer({ min: 1, max: 3600 })),
  })

  test('on the code of any secret, time, algorithm, length and period', () => {
    fc.assert(
      fc.property(phone, ({ bytes, at, ...parameters }) => {
        const code = totpAt(createSecretKey(bytes), at, parameters)

        expect(code).toBe(otpauthTotp(bytes, at, parameters))
        expect(code).toBe(otplibTotp(bytes, at, parameters))
      }),
    )
  })

  test('on which steps of a code a window of one accepts', () => {
    fc.assert(
      fc.property(phone, fc.integer({ min: -2, max: 2 }), ({ bytes, at, ...parameters }, drift) => {
        const shown = Math.max(0, stepAt(at, parameters.periodSeconds) + drift)
        const secret = createSecretKey(bytes)
        const code = hotp(secret, shown, parameters)

        const step = matchStep(secret, code, at, { ...parameters, window: 1 })

        const peer = otpauth.TOTP.validate({
          ...otpauthParameters(bytes, parameters),
          token: code,
          timestamp: at * 1000,
          window: 1,
        })
        expect(step !== null).toBe(peer !== null)
        // The code of the answered step, whichever it is: six digits may belong to two steps.
        if (step !== null) expect(hotp(secret, step, parameters)).toBe(code)
      }),
    )
  })

  test('on the code of now, which otplib verifies', () => {
    fc.assert(
      fc.property(phone, ({ bytes, at, ...parameters }) => {
        const token = totpAt(createSecretKey(bytes), at, parameters)

        expect(verifySync({ ...otplibParameters(bytes, parameters), epoch: at, token }).valid).toBe(true)
      }),
    )
  })
})

describe('matchStep', () => {
  const secret = createSecretKey(Buffer.from(rfc6238.secrets.SHA1))
  const parameters = { algorithm: 'SHA1', digits: 6, periodSeconds, window: 1 } as const
  const noon = 1_764_331_200
  const nowStep = noon / periodSeconds
  const codeOf = (step: number) => hotp(secret, step, parameters)

  test.each([-1, 0, 1])('accepts the code %i step away and answers with the step of the code', (drift) => {
    expect(matchStep(secret, codeOf(nowStep + drift), noon, parameters)).toBe(nowStep + drift)
  })

  test.each([-3, -2, 2, 3])('does not accept the code %i steps away', (drift) => {
    expect(matchStep(secret, codeOf(nowStep + drift), noon, parameters)).toBeNull()
  })

  test('a window of 0 accepts the present step only', () => {
    const strict = { ...parameters, window: 0 }

    expect([-1, 0, 1].map((drift) => matchStep(secret, codeOf(nowStep + drift), noon, strict))).toEqual([
      null,
      nowStep,
      null,
    ])
  })

  test('a window of 2 reaches two steps and not three', () => {
    const wide = { ...parameters, window: 2 }

    expect([-3, -2, 2, 3].map((drift) => matchStep(secret, codeOf(nowStep + drift), noon, wide))).toEqual([
      null,
      nowStep - 2,
      nowStep + 2,
      null,
    ])
  })

  test('a code is good from the first second of the step before to the last second of the step after', () => {
    const code = codeOf(nowStep)

    expect(matchStep(secret, code, noon - 30, parameters)).toBe(nowStep)
    expect(matchStep(secret, code, noon - 31, parameters)).toBeNull()
    expect(matchStep(secret, code, noon + 59, parameters)).toBe(nowStep)
    expect(matchStep(secret, code, noon + 60, parameters)).toBeNull()
  })

  test('in 1970 the window begins at step 0', () => {
    expect(matchStep(secret, codeOf(0), 0, parameters)).toBe(0)
    expect(matchStep(secret, codeOf(1), 0, parameters)).toBe(1)
  })

  test('a time before 1970 is a bug in the caller', () => {
    expect(() => matchStep(secret, codeOf(0), -1, parameters)).toThrow(
      new RangeError('time must not be negative (Unix seconds)'),
    )
  })

  const code = codeOf(nowStep)
  const inDigitsFrom = (zero: number) => [...code].map((digit) => String.fromCodePoint(zero + Number(digit))).join('')

  test.each([
    ['empty', ''],
    ['too short', code.slice(1)],
    ['too long', `${code}0`],
    ['a space before', ` ${code}`],
    ['a space instead of the last digit', `${code.slice(0, 5)} `],
    ['a line break at the end', `${code}\n`],
    ['a line break instead of the last digit', `${code.slice(0, 5)}\n`],
    ['a space in the middle', `${code.slice(0, 3)} ${code.slice(3)}`],
    ['a hyphen in the middle', `${code.slice(0, 3)}-${code.slice(3)}`],
    ['letters', 'abcdef'],
    ['a sign', `+${code.slice(1)}`],
    ['hexadecimal', `0x${code.slice(2)}`],
    ['an exponent', '1e0000'],
    ['NUL bytes', '\0\0\0\0\0\0'],
    ['full-width digits, not normalized', inDigitsFrom(0xff10)],
    ['arabic-indic digits', inDigitsFrom(0x0660)],
    ['extended arabic-indic digits', inDigitsFrom(0x06f0)],
    ['devanagari digits', inDigitsFrom(0x0966)],
    ['mathematical digits of two UTF-16 units', inDigitsFrom(0x1d7ce)],
    // The low byte of each is the ASCII digit, so a Latin-1 buffer of it would be the right code.
    ['letters whose low byte is the right digit', inDigitsFrom(0x0130)],
    ['such a letter for the first digit', inDigitsFrom(0x0130).charAt(0) + code.slice(1)],
    ['such a letter for the last digit', code.slice(0, -1) + inDigitsFrom(0x0130).slice(-1)],
    ['lone surrogates', '\ud800'.repeat(6)],
  ])('a malformed code matches nothing and does not throw: %s', (_what, typed) => {
    expect(matchStep(secret, typed, noon, parameters)).toBeNull()
  })

  test('another spelling of the same number is another code', () => {
    const firstFrom = (isSo: (code: string) => boolean) => {
      for (let step = nowStep; ; step++) if (isSo(codeOf(step))) return { step, code: codeOf(step) }
    }
    const spellings = {
      'a zero at the beginning': (code: string) => [
        code.slice(1),
        `0${code}`,
        `+${code.slice(1)}`,
        ` ${code.slice(1)}`,
        `\n${code.slice(1)}`,
        `${code.slice(1)} `,
        `${code.slice(1)}\n`,
        `${code}.0`,
      ],
      'two zeros at the beginning': (code: string) => [
        `${code.slice(2)}.0`,
        `${code.slice(2)}e0`,
        ` ${code.slice(2)} `,
      ],
      hexadecimal: (code: string) => [`0x${Number(code).toString(16)}`],
    }
    const found = {
      'a zero at the beginning': firstFrom((code) => code.startsWith('0')),
      'two zeros at the beginning': firstFrom((code) => code.startsWith('00')),
      hexadecimal: firstFrom((code) => Number(code) >= 0x1000 && Number(code) <= 0xffff),
    }

    for (const [name, { step, code }] of Object.entries(found)) {
      const at = step * periodSeconds
      expect(matchStep(secret, code, at, parameters)).toBe(step)
      for (const typed of spellings[name as keyof typeof spellings](code)) {
        expect(Number(typed), 'the same number').toBe(Number(code))
        expect(matchStep(secret, typed, at, parameters), JSON.stringify(typed)).toBeNull()
      }
    }
  })

  test('of two steps with the same code it is the later one, whichever is now', () => {
    const oneDigit = { ...parameters, digits: 1 }
    let step = nowStep
    while (hotp(secret, step, oneDigit) !== hotp(secret, step + 1, oneDigit)) step++
    const code = hotp(secret, step, oneDigit)

    for (const now of [step, step + 1]) {
      expect(matchStep(secret, code, now * periodSeconds, { ...oneDigit, window: 1 })).toBeGreaterThanOrEqual(step + 1)
    }
  })

  test('what is no number is not taken for 0', () => {
    const oneDigit = { ...parameters, digits: 1, window: 0 }
    let step = nowStep
    while (hotp(secret, step, oneDigit) !== '0') step++

    expect(matchStep(secret, '0', step * periodSeconds, oneDigit)).toBe(step)
    for (const typed of ['a', ' ', '-', '\ud800']) {
      expect(matchStep(secret, typed, step * periodSeconds, oneDigit), JSON.stringify(typed)).toBeNull()
    }
  })

  test('whatever is typed, the answer is null or a step of the window, never a throw', () => {
    const typed = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 12 }),
      fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 8 }).map((units) => String.fromCharCode(...units)),
      fc.integer({ min: 0, max: 999_999 }).map((number) => String(number).padStart(6, '0')),
      fc.integer({ min: -1, max: 1 }).map((drift) => codeOf(nowStep + drift)),
    )
    const codes = new Map([nowStep - 1, nowStep, nowStep + 1].map((step) => [codeOf(step), step]))
    expect(codes.size).toBe(3)
    fc.assert(
      fc.property(typed, (typed) => {
        expect(matchStep(secret, typed, noon, parameters)).toBe(codes.get(typed) ?? null)
      }),
      { numRuns: 500 },
    )
  })
})

interface Parameters {
  algorithm: OtpAlgorithm
  digits: 6 | 7 | 8
  periodSeconds: number
}

function otpauthTotp(bytes: Uint8Array, at: number, parameters: Parameters): string {
  return otpauth.TOTP.generate({ ...otpauthParameters(bytes, parameters), timestamp: at * 1000 })
}

function otplibTotp(bytes: Uint8Array, at: number, parameters: Parameters): string {
  return generateSync({ ...otplibParameters(bytes, parameters), epoch: at })
}

function otpauthParameters(bytes: Uint8Array, { algorithm, digits, periodSeconds }: Parameters) {
  return {
    secret: new otpauth.Secret({ buffer: Uint8Array.from(bytes).buffer }),
    algorithm,
    digits,
    period: periodSeconds,
  }
}

function otplibParameters(bytes: Uint8Array, { algorithm, digits, periodSeconds }: Parameters) {
  const peerAlgorithm = ({ SHA1: 'sha1', SHA256: 'sha256', SHA512: 'sha512' } as const)[algorithm]
  return { secret: Uint8Array.from(bytes), algorithm: peerAlgorithm, digits, period: periodSeconds }
}
