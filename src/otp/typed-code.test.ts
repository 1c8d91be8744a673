import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { looksLikeTotpCode, readTypedCode } from './typed-code.ts'

describe('what a person meant by a typed code', () => {
  test.each([
    ['as it is', '123456'],
    ['full-width digits', '１２３４５６'],
    ['mathematical digits', '𝟏𝟐𝟑𝟒𝟓𝟔'],
    ['a space in the middle', '123 456'],
    ['spaces and a line break around it', ' 123456 \r\n'],
    ['a tab', '123\t456'],
    ['a no-break space', '123\u00a0456'],
    ['a narrow no-break space', '123\u202f456'],
    ['a thin space', '123\u2009456'],
    ['an ideographic space', '123\u3000456'],
    ['a byte order mark', '\ufeff123456'],
    ['a hyphen', '123-456'],
    ['a non-breaking hyphen', '123\u2011456'],
    ['an en dash', '123–456'],
    ['an em dash', '123—456'],
    ['a minus sign', '123−456'],
    ['a full-width hyphen', '１２３－４５６'],
    ['all of it', ' １２３ –\u00a0４５６\n'],
  ])('%s', (_what, typed) => {
    expect(readTypedCode(typed)).toBe('123456')
  })
})

test('leading zeros stay', () => {
  expect(readTypedCode('000 042')).toBe('000042')
})

test('arabic-indic digits stay what they are: Unicode does not call them forms of ASCII digits', () => {
  expect(readTypedCode('١٢٣٤٥٦')).toBe('١٢٣٤٥٦')
})

test('other signs stay, so that they are refused and not forgiven', () => {
  expect(readTypedCode('12.34+56')).toBe('12.34+56')
})

test('a code has one spelling, however spaces, hyphens and full-width digits are strewn in', () => {
  const spellingOf = (digit: number) => fc.constantFrom(String(digit), String.fromCodePoint(0xff10 + digit))
  const noise = fc.string({ unit: fc.constantFrom(' ', '-', '–', '\u00a0', '\u3000', '\t'), maxLength: 3 })
  const typings = fc.array(fc.nat({ max: 9 }), { minLength: 6, maxLength: 8 }).chain((digits) =>
    fc.record({
      code: fc.constant(digits.join('')),
      typed: fc.tuple(...digits.flatMap((digit) => [noise, spellingOf(digit)]), noise).map((parts) => parts.join('')),
    }),
  )
  fc.assert(
    fc.property(typings, ({ code, typed }) => {
      expect(readTypedCode(typed)).toBe(code)
      expect(readTypedCode(code)).toBe(code)
    }),
  )
})

describe('looksLikeTotpCode', () => {
  test.each(['123456', '1234567', '12345678', '000000', '1', ' 123 456 ', '123–456', '１２３４５６'])(
    '"%s" has the shape of a code from an app',
    (typed) => {
      expect(looksLikeTotpCode(typed)).toBe(true)
    },
  )

  test.each([
    '',
    ' - ',
    '123456789',
    'abcdef',
    '12345a',
    '1.2345',
    '-0x123',
    '١٢٣٤٥٦',
    '7K3M-9QXR-0VJD-F2TA',
    '0123-4567-8901-2345',
  ])('"%s" has not', (typed) => {
    expect(looksLikeTotpCode(typed)).toBe(false)
  })
})
