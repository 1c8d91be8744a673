import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { CompactSign, compactVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import rfc7515 from '../../test/vectors/rfc7515.json' with { type: 'json' }
import { hs256 } from './hs256.ts'

const HEADER = '{"alg":"HS256","typ":"at+jwt"}'
const PAYLOAD = '{"sub":"ann"}'
const key = createSecretKey(randomBytes(32))
const other = createSecretKey(randomBytes(32))
const jws = hs256(HEADER, [key])
const encode = (text: string | Uint8Array) => Buffer.from(text).toString('base64url')
/** A token with a right MAC over whatever stands before it. */
const signedBy = (by: typeof key, input: string, algorithm = 'sha256') =>
  `${input}.${createHmac(algorithm, by).update(input).digest('base64url')}`
const signed = (header: string, payload: string | Uint8Array) => signedBy(key, `${encode(header)}.${encode(payload)}`)
const joseSigned = (header: { alg: string } & Record<string, unknown>, payload: string) =>
  new CompactSign(Buffer.from(payload)).setProtectedHeader(header).sign(key)

test('the vector of RFC 7515 A.1 is what is signed, and opens', () => {
  const vector = hs256(rfc7515.header, [createSecretKey(Buffer.from(rfc7515.key, 'base64url'))])

  expect(vector.sign(rfc7515.payload)).toBe(rfc7515.token)
  expect(vector.open(rfc7515.token)).toBe(rfc7515.payload)
})

test('what jose signs under this header opens, and jose verifies what is signed, whatever the payload', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 200 }), async (text) => {
      const payload = JSON.stringify({ text })
      const token = jws.sign(payload)

      expect(await joseSigned({ alg: 'HS256', typ: 'at+jwt' }, payload)).toBe(token)
      expect(jws.open(token)).toBe(payload)
      const { payload: read } = await compactVerify(token, key, { algorithms: ['HS256'] })
      expect(Buffer.from(read).toString()).toBe(payload)
    }),
    { numRuns: 100 },
  )
})

test('a token of an earlier key opens, and the first key signs', () => {
  const rotated = hs256(HEADER, [other, key])

  expect(rotated.open(jws.sign(PAYLOAD))).toBe(PAYLOAD)
  expect(jws.open(rotated.sign(PAYLOAD))).toBeNull()
  expect(hs256(HEADER, [other]).open(rotated.sign(PAYLOAD))).toBe(PAYLOAD)
})

describe('is refused', () => {
  const [header = '', payload = '', mac = ''] = jws.sign(PAYLOAD).split('.')
  /** The last character carries four bits of 32 bytes and two that must be zero. */
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const withUnusedBit = (text: string) => text.slice(0, -1) + alphabet[alphabet.indexOf(text.slice(-1)) + 1]
  const shortPayload = encode('{"a":1}')

  test('a header that is not this one to the letter, though jose reads it as the same', async () => {
    const headers = [
      '{"typ":"at+jwt","alg":"HS256"}',
      '{"alg":"HS256", "typ":"at+jwt"}',
      '{"alg":"HS256","typ":"at+jwt"} ',
      '{"alg":"HS256","typ":"AT+JWT"}',
      '{"alg":"HS256","typ":"at+jwt","kid":"1"}',
      '{"alg":"HS256","typ":"at+jwt","typ":"at+jwt"}',
      '{"alg":"none","alg":"HS256","typ":"at+jwt"}',
    ]
    for (const text of headers) {
      const token = signed(text, PAYLOAD)
      await compactVerify(token, key)
      expect(jws.open(token), text).toBeNull()
    }
  })

  test('another kind, another algorithm, no algorithm, and an extension', async () => {
    const input = `${encode('{"alg":"none","typ":"at+jwt"}')}.${payload}`
    const tokens = [
      hs256('{"alg":"HS256","typ":"rt+jwt"}', [key]).sign(PAYLOAD),
      await joseSigned({ alg: 'HS256' }, PAYLOAD),
      signedBy(key, `${encode('{"alg":"HS512","typ":"at+jwt"}')}.${payload}`, 'sha512'),
      signed('{"alg":"HS512","typ":"at+jwt"}', PAYLOAD),
      signed('{"alg":"RS256","typ":"at+jwt"}', PAYLOAD),
      signed('{"alg":"HS256","typ":"at+jwt","crit":["exp"],"exp":1}', PAYLOAD),
      signed('{"alg":"HS256","typ":"at+jwt","b64":false,"crit":["b64"]}', PAYLOAD),
      signed('[]', PAYLOAD),
      signed('', PAYLOAD),
      `${input}.`,
      input,
      `${input}.${mac}`,
      signedBy(key, input),
    ]
    for (const token of tokens) expect(jws.open(token), token).toBeNull()
  })

  test('a MAC that is absent, cut, too long, or of another key or hash', () => {
    const input = `${header}.${payload}`
    const bytes = Buffer.from(mac, 'base64url')
    const tokens = [
      `${input}.`,
      input,
      `${input}.${encode(bytes.subarray(0, 31))}`,
      `${input}.${encode(bytes.subarray(0, 16))}`,
      `${input}.${encode(Buffer.concat([bytes, Buffer.alloc(1)]))}`,
      signedBy(other, input),
      signedBy(createSecretKey(Buffer.alloc(0)), input),
      signedBy(key, input, 'sha512'),
      signedBy(key, input, 'sha384'),
    ]
    for (const token of tokens) expect(jws.open(token), token).toBeNull()
  })

  test('a second spelling of the same bytes: padding, the other alphabet, white space, unused bits that are set', () => {
    expect(Buffer.from(withUnusedBit(mac), 'base64url')).toEqual(Buffer.from(mac, 'base64url'))
    expect(Buffer.from(withUnusedBit(shortPayload), 'base64url')).toEqual(Buffer.from(shortPayload, 'base64url'))
    const awkward = jws.sign('{"a":"???>>>"}')
    const tokens = [
      `${header}.${payload}.${withUnusedBit(mac)}`,
      `${header}.${payload}.${mac}=`,
      `${header}.${payload}.${mac}\n`,
      `${header}.${payload}.${mac.slice(0, 20)} ${mac.slice(20)}`,
      `${header}.${payload}.${mac}.`,
      ` ${header}.${payload}.${mac}`,
      signedBy(key, `${header}.${withUnusedBit(shortPayload)}`),
      signedBy(key, `${header}.${shortPayload}=`),
      signedBy(key, `${header}.${shortPayload}\n`),
      signedBy(key, `${header}.${payload}.${payload}`),
      signedBy(key, `${header}=.${payload}`),
      signedBy(key, awkward.slice(0, awkward.lastIndexOf('.')).replaceAll('_', '/').replaceAll('-', '+')),
    ]
    expect(awkward).toMatch(/^[\w-]+\.[\w-]*_[\w-]*\./)
    for (const token of tokens) expect(jws.open(token), token).toBeNull()
  })

  test('a payload that is signed and not UTF-8', () => {
    expect(jws.open(signed(HEADER, Buffer.from([0x22, 0xff, 0x22])))).toBeNull()
    expect(jws.open(signed(HEADER, Buffer.from([0x22, 0xc3])))).toBeNull()
    expect(jws.open(signed(HEADER, Buffer.from([0xef, 0xbb, 0xbf, 0x31])))).toBe('\uFEFF1')
  })

  test('a token of some megabytes, of dots or of nothing', () => {
    const long = 'A'.repeat(4_000_000)
    const tokens = ['', '.', '..', '...', header, `${header}.`, `${header}..`, `${header}..${mac}`]
    const huge = [long, '.'.repeat(4_000_000), `${header}.${long}.${mac}`, `${header}.${payload}.${long}`]
    for (const token of [...tokens, ...huge]) expect(jws.open(token) === null, token.slice(0, 80)).toBe(true)
  })

  test('a token with any one character changed, taken out or put in', () => {
    const token = jws.sign(PAYLOAD)
    fc.assert(
      fc.property(
        fc.nat(token.length - 1),
        fc.constantFrom(0, 1),
        fc.oneof(fc.constantFrom('', '.', '=', ...alphabet), fc.string({ unit: 'binary', maxLength: 1 })),
        (at, taken, put) => {
          const changed = token.slice(0, at) + put + token.slice(at + taken)
          fc.pre(changed !== token)
          expect(jws.open(changed)).toBeNull()
        },
      ),
      { numRuns: 2000 },
    )
  })
})

test('a signed payload of nothing opens as nothing', () => {
  expect(jws.open(jws.sign(''))).toBe('')
})
