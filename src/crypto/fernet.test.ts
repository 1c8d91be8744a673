import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import python from '../../test/vectors/fernet-python.json' with { type: 'json' }
import spec from '../../test/vectors/fernet-spec.json' with { type: 'json' }
import recorded from '../../test/vectors/keyring-python.json' with { type: 'json' }
import { encodeBase64Url, fernetKey, openFernet, parseFernetKey, sealFernet } from './fernet.ts'

const keyOf = (text: string) => fernetKey(parseFernetKey(text))
const secondsOf = (iso: string) => Date.parse(iso) / 1000
const ageOf = ({ ttl, current_time }: { ttl: number | null; current_time: number | null }) =>
  ttl === null || current_time === null ? undefined : { at: current_time, ttlSeconds: ttl }

describe('the vectors of the Fernet specification', () => {
  const key = keyOf(spec.secret)

  test.each(spec.generate)('generate.json: "$src"', ({ token, now, iv, src }) => {
    expect(sealFernet(key, src, secondsOf(now), Uint8Array.from(iv))).toBe(token)
  })

  test.each(spec.verify)('verify.json: "$src"', ({ token, now, ttl_sec, src }) => {
    expect(openFernet(key, token, { at: secondsOf(now), ttlSeconds: ttl_sec })).toEqual({
      plaintext: src,
      sealedAt: secondsOf('1985-10-26T01:20:00-07:00'),
    })
  })

  test.each(spec.invalid)('invalid.json: $desc', ({ token, now, ttl_sec }) => {
    expect(openFernet(key, token, { at: secondsOf(now), ttlSeconds: ttl_sec })).toBeNull()
  })

  test('only time is wrong with the two that are too old or too new: they open when age is not asked for', () => {
    const wrongInTime = spec.invalid.filter(({ token }) => openFernet(key, token) !== null)

    expect(wrongInTime.map(({ desc }) => desc)).toEqual(['far-future TS (unacceptable clock skew)', 'expired TTL'])
  })
})

describe("the tokens of Python's cryptography", () => {
  test.each(python.valid)('$id opens and is made again, letter by letter: $note', (vector) => {
    const key = keyOf(vector.key)

    expect(openFernet(key, vector.token)).toEqual({ plaintext: vector.plaintext, sealedAt: vector.timestamp })
    expect(sealFernet(key, vector.plaintext, vector.timestamp, Buffer.from(vector.iv_hex, 'hex'))).toBe(vector.token)
  })

  test.each(python.invalid)('$id is refused: $note', (vector) => {
    expect(openFernet(keyOf(vector.key), vector.token, ageOf(vector))).toBeNull()
  })

  const misspelt = python.tolerated_by_python.filter(({ id }) => id !== 'x38')
  const exactlyTtlOld = python.tolerated_by_python.filter(({ id }) => id === 'x38')

  test.each(misspelt)('$id is refused, though Python forgives it: $note', (vector) => {
    expect(openFernet(keyOf(vector.key), vector.token, ageOf(vector))).toBeNull()
  })

  test.each(exactlyTtlOld)('$id opens: $note', (vector) => {
    expect(openFernet(keyOf(vector.key), vector.token, ageOf(vector))?.plaintext).toBe(vector.plaintext)
  })

  test('all of them are there', () => {
    expect([python.valid, python.invalid, misspelt, exactlyTtlOld].map((list) => list.length)).toEqual([9, 17, 4, 1])
  })
})

test('bytes that are not text are refused and not turned into other text, though they are rightly sealed', () => {
  expect(openFernet(keyOf(recorded.keys[0] ?? ''), recorded.notText.token)).toBeNull()
})

describe('parseFernetKey', () => {
  test.each([
    ...python.keys_to_reject,
    { note: '32 bytes in the alphabet of standard base64', key: '/tABe1HPoP1JwTmZgJVw9htGpeBnhoAbasERckN4+lA=' },
    { note: 'bits left over that are not zero', key: '_tABe1HPoP1JwTmZgJVw9htGpeBnhoAbasERckN4-lB=' },
    { note: 'a line break at the end', key: '_tABe1HPoP1JwTmZgJVw9htGpeBnhoAbasERckN4-lA=\n' },
    { note: 'a space before', key: ' _tABe1HPoP1JwTmZgJVw9htGpeBnhoAbasERckN4-lA=' },
  ])('refuses $note, and does not repeat it', ({ key }) => {
    const refusal = errorOf(() => parseFernetKey(key))

    expect(refusal).toBeInstanceOf(TypeError)
    expect(refusal.message).toBe('a Fernet key must be 32 bytes in URL-safe base64 with padding (44 characters)')
    expect(JSON.stringify({ ...refusal })).toBe('{}')
  })

  test('reads back what encodeBase64Url wrote', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const text = encodeBase64Url(bytes)

        expect(text).toMatch(/^[\w-]{43}=$/)
        expect(new Uint8Array(parseFernetKey(text))).toEqual(bytes)
      }),
    )
  })
})

describe('what is sealed', () => {
  const keys = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(fernetKey)
  const ivs = fc.uint8Array({ minLength: 16, maxLength: 16 })
  const times = fc.oneof(fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }))
  // All of Unicode, as fast-check's unit 'binary' has it too, which takes a second to set up.
  const characters = fc
    .oneof(fc.integer({ min: 0, max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
    .map((codePoint) => String.fromCodePoint(codePoint))
  const texts = fc.oneof(
    fc.string({ unit: characters, maxLength: 100 }),
    fc.constantFrom('', '\ufeffbyte order mark first', '\0', '\u2028', 'x'.repeat(15), 'x'.repeat(16), 'é'.repeat(8)),
  )

  test('opens to the same text and time, whatever the text', () => {
    fc.assert(
      fc.property(keys, texts, times, ivs, (key, plaintext, at, iv) => {
        expect(openFernet(key, sealFernet(key, plaintext, at, iv))).toEqual({ plaintext, sealedAt: at })
      }),
    )
  })

  test('does not open with another key', () => {
    fc.assert(
      fc.property(keys, keys, texts, ivs, (key, other, plaintext, iv) => {
        fc.pre(!key.signing.equals(other.signing))

        expect(openFernet(other, sealFernet(key, plaintext, 0, iv))).toBeNull()
      }),
    )
  })

  test('does not open with the same signing key and another encryption key: no noise is taken for text', () => {
    const bytes = Buffer.from(parseFernetKey(spec.secret))
    const other = fernetKey(Buffer.concat([bytes.subarray(0, 16), Buffer.alloc(16)]))

    expect(openFernet(other, spec.generate[0]?.token ?? '')).toBeNull()
  })

  test('is refused with any single character changed, dropped or doubled', () => {
    const base64Letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const changes = fc.constantFrom('', ...base64Letters, '=', '+', '/', ' ', '\n', 'é')
    fc.assert(
      fc.property(keys, texts, ivs, fc.nat(), changes, (key, plaintext, iv, place, change) => {
        const token = sealFernet(key, plaintext, 1_700_000_000, iv)
        const index = place % token.length
        fc.pre(token.charAt(index) !== change)

        const changed = token.slice(0, index) + change + token.slice(index + 1)
        const doubled = token.slice(0, index + 1) + token.slice(index)

        expect(openFernet(key, changed)).toBeNull()
        expect(openFernet(key, doubled)).toBeNull()
      }),
      { numRuns: 500 },
    )
  })

  test('is refused at every place and with every base64 letter but the right one', () => {
    const key = keyOf(spec.secret)
    const token = spec.generate[0]?.token ?? ''
    const opened: string[] = []

    for (let index = 0; index < token.length; index++) {
      for (const letter of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=') {
        const changed = token.slice(0, index) + letter + token.slice(index + 1)
        if (openFernet(key, changed) !== null) opened.push(changed)
      }
    }

    // Once for each place: the letter that stood there.
    expect(opened).toEqual(new Array(token.length).fill(token))
  })

  test('whatever is sent, the answer is null and not a throw', () => {
    const key = keyOf(spec.secret)
    const sent = fc.oneof(
      fc.string({ unit: characters }),
      fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units)),
      fc.uint8Array({ maxLength: 120 }).map(encodeBase64Url),
      fc.uint8Array({ maxLength: 120 }).map((bytes) => encodeBase64Url(Uint8Array.of(0x80, ...bytes))),
    )
    fc.assert(
      fc.property(sent, (sent) => {
        expect(openFernet(key, sent, { at: 0, ttlSeconds: 60 })).toBeNull()
      }),
    )
  })
})

test('a token too short to hold a header, a block and a signature is refused, whatever its length', () => {
  const key = keyOf(spec.secret)

  for (let length = 0; length < 1 + 8 + 16 + 16 + 32; length++) {
    expect(openFernet(key, encodeBase64Url(new Uint8Array(length).fill(0x80, 0, 1)))).toBeNull()
  }
})

describe('the age of a token', () => {
  const key = keyOf(spec.secret)
  const sealedAt = 1_700_000_000
  const token = sealFernet(key, 'hello', sealedAt, new Uint8Array(16))
  const opensAfter = (seconds: number) => openFernet(key, token, { at: sealedAt + seconds, ttlSeconds: 300 }) !== null

  test('exactly ttl old is good, one second more is not', () => {
    expect([opensAfter(0), opensAfter(299), opensAfter(300), opensAfter(301)]).toEqual([true, true, true, false])
  })

  test('a clock 60 s ahead is forgiven, 61 s is not (Fernet specification, max clock skew)', () => {
    expect([opensAfter(-60), opensAfter(-61)]).toEqual([true, false])
  })

  test('does not matter when it is not asked for', () => {
    expect(openFernet(key, token)).toEqual({ plaintext: 'hello', sealedAt })
  })
})

function errorOf(act: () => unknown): Error {
  try {
    act()
  } catch (error) {
    if (error instanceof Error) return error
  }
  throw new Error('no error was thrown')
}
