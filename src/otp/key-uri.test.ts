import { createRequire } from 'node:module'
import fc from 'fast-check'
import * as otpauth from 'otpauth'
import { describe, expect, test } from 'vitest'
import { encodeBase32 } from './base32.ts'
import { type KeyUri, keyUri } from './key-uri.ts'

const alice: KeyUri = {
  issuer: 'Example',
  accountName: 'alice@example.com',
  secret: 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ',
  algorithm: 'SHA1',
  digits: 6,
  periodSeconds: 30,
}

test('the usual key URI is label, secret and issuer, without the parameters that have their default', () => {
  expect(keyUri(alice)).toBe(
    'otpauth://totp/Example:alice%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Example',
  )
})

test.each([
  [{ algorithm: 'SHA256' }, '&algorithm=SHA256'],
  [{ algorithm: 'SHA512' }, '&algorithm=SHA512'],
  [{ digits: 8 }, '&digits=8'],
  [{ periodSeconds: 60 }, '&period=60'],
  [{ algorithm: 'SHA512', digits: 7, periodSeconds: 15 }, '&algorithm=SHA512&digits=7&period=15'],
] as [Partial<KeyUri>, string][])('a parameter that has not its default is written: %o', (chosen, ending) => {
  expect(keyUri({ ...alice, ...chosen })).toBe(keyUri(alice) + ending)
})

test('a space is %20 and never +, and a plus is %2B', () => {
  const uri = keyUri({ ...alice, issuer: 'Big Corp', accountName: 'alice +2' })

  expect(uri).toContain('/Big%20Corp:alice%20%2B2?')
  expect(uri).toContain('&issuer=Big%20Corp')
  expect(uri).not.toContain('+')
})

test('signs that end a part of a URI are escaped, and so are those that RFC 3986 reserves', () => {
  const uri = keyUri({ ...alice, issuer: `a&b=c?d#e/f%g"h'i(j)k*l!m`, accountName: 'x' })

  expect(uri).toContain('otpauth://totp/a%26b%3Dc%3Fd%23e%2Ff%25g%22h%27i%28j%29k%2Al%21m:x?')
})

test('the secret stands in the URI without padding', () => {
  const secret = encodeBase32(Buffer.from('a secret of 21 bytes!'))

  const uri = keyUri({ ...alice, secret })

  expect(uri).toMatch(/\?secret=[A-Z2-7]+&issuer=Example$/)
})

describe('a name that an app could not show is refused', () => {
  test.each(['issuer', 'accountName'] as const)('%s', (member) => {
    const named = { issuer: 'issuer', accountName: 'account name' }[member]
    const withName = (name: string) => () => keyUri({ ...alice, [member]: name })

    expect(withName('a:b')).toThrow(new RangeError(`the ${named} must not contain a colon`))
    for (const empty of ['', ' ', '\u00a0\u3000']) {
      expect(withName(empty)).toThrow(new RangeError(`the ${named} must not be empty`))
    }
    for (const broken of ['a\nb', 'a\0b', 'a\u007fb', 'a\u0085b', 'a\ud800', '\udc00a']) {
      expect(withName(broken)).toThrow(
        new RangeError(`the ${named} must not contain control characters or invalid Unicode`),
      )
    }
  })
})

test('a URI of 700 characters is made, and one of 701 is refused', () => {
  const room = 700 - keyUri({ ...alice, accountName: 'x' }).length

  expect(keyUri({ ...alice, accountName: 'x'.repeat(room + 1) })).toHaveLength(700)
  expect(() => keyUri({ ...alice, accountName: 'x'.repeat(room + 2) })).toThrow(
    new RangeError('the issuer and the account name together are too long for a QR code'),
  )
})

test('the refusal does not repeat the secret', () => {
  const refusals = [{ issuer: '' }, { issuer: 'a:b' }, { issuer: '\0' }, { issuer: 'x'.repeat(700) }].map((wrong) =>
    messageOf(() => keyUri({ ...alice, ...wrong })),
  )

  for (const message of refusals) expect(message).not.toContain(alice.secret)
})

describe('three parsers read back what was written', () => {
  const names = fc
    .oneof(
      { weight: 3, arbitrary: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 }) },
      { weight: 3, arbitrary: fc.string({ unit: fc.constantFrom(...` &+/%"'=?#@.;\\<>|~!()*é日🔐ש`), maxLength: 10 }) },
      fc.constantFrom(
        'Big Corp & Sons',
        'a+b@example.com',
        '50% off/on',
        '%41%3A%20',
        `"quoted" 'twice'`,
        '日本語テスト',
        '🔐🗝️',
        'مثال שלום',
        '\u200fשלום\u200e (x)',
        '..',
        ' padded ',
        '&issuer=Evil',
        '?secret=AAAA',
        '#fragment',
      ),
    )
    .filter((name) => name.trim() !== '' && !/[:\p{Cc}]/u.test(name) && encodeURIComponent(name).length <= 150)
  const keyUris: fc.Arbitrary<KeyUri> = fc.record({
    issuer: names,
    accountName: names,
    secret: fc.uint8Array({ minLength: 16, maxLength: 64 }).map(encodeBase32),
    algorithm: fc.constantFrom('SHA1', 'SHA256', 'SHA512'),
    digits: fc.constantFrom(6, 7, 8),
    periodSeconds: fc.constantFrom(15, 30, 60),
  })

  test('the WHATWG URL parser, and the issuer in the label equals the issuer parameter', () => {
    fc.assert(
      fc.property(keyUris, (written) => {
        const url = new URL(keyUri(written))

        expect([url.protocol, url.host, url.hash]).toEqual(['otpauth:', 'totp', ''])
        expect(url.pathname.slice(1).split(':').map(decodeURIComponent)).toEqual([written.issuer, written.accountName])
        expect(Object.fromEntries(url.searchParams)).toEqual({
          secret: written.secret,
          issuer: written.issuer,
          ...(written.algorithm === 'SHA1' ? {} : { algorithm: written.algorithm }),
          ...(written.digits === 6 ? {} : { digits: String(written.digits) }),
          ...(written.periodSeconds === 30 ? {} : { period: String(written.periodSeconds) }),
        })
      }),
    )
  })

  test('otpauth', () => {
    fc.assert(
      fc.property(keyUris, (written) => {
        const read = otpauth.URI.parse(keyUri(written)) as otpauth.TOTP

        expect(read).toBeInstanceOf(otpauth.TOTP)
        expect({
          issuer: read.issuer,
          accountName: read.label,
          secret: read.secret.base32,
          algorithm: read.algorithm,
          digits: read.digits,
          periodSeconds: read.period,
        }).toEqual(written)
        expect(read.issuerInLabel).toBe(true)
      }),
    )
  })

  test('otplib', () => {
    fc.assert(
      fc.property(keyUris, (written) => {
        const { type, label, params } = parseWithOtplib(keyUri(written))

        expect(type).toBe('totp')
        expect(label).toBe(`${written.issuer}:${written.accountName}`)
        expect({ algorithm: 'sha1', digits: 6, period: 30, ...params }).toEqual({
          secret: written.secret,
          issuer: written.issuer,
          algorithm: written.algorithm.toLowerCase(),
          digits: written.digits,
          period: written.periodSeconds,
        })
      }),
    )
  })
})

interface OtplibUri {
  type: string
  label: string
  params: { secret: string; issuer?: string; algorithm?: string; digits?: number; period?: number }
}

/** `parse` of @otplib/uri, which otplib 13 depends on and does not export. */
function parseWithOtplib(uri: string): OtplibUri {
  const otplib = createRequire(createRequire(import.meta.url).resolve('otplib'))
  const { parse } = otplib('@otplib/uri') as { parse(uri: string): OtplibUri }
  return parse(uri)
}

function messageOf(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    return String(error)
  }
  throw new Error('nothing was thrown')
}
