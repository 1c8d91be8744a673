import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import python from '../../test/vectors/fernet-python.json' with { type: 'json' }
import recorded from '../../test/vectors/keyring-python.json' with { type: 'json' }
import { createKeyring, generateFernetKey } from './keyring.ts'

const noon = 1_764_331_200

describe('the keys of a ring', () => {
  const [newest, middle, oldest, stranger] = [
    generateFernetKey(),
    generateFernetKey(),
    generateFernetKey(),
    generateFernetKey(),
  ]
  const ring = createKeyring([newest, middle, oldest])

  test('the first seals', () => {
    const sealed = ring.seal('hello', noon)

    expect(createKeyring([newest]).open(sealed)).toEqual({ plaintext: 'hello', sealedAt: noon })
    expect(createKeyring([middle, oldest]).open(sealed)).toBeNull()
  })

  test('all open', () => {
    for (const key of [newest, middle, oldest]) {
      const sealed = createKeyring([key]).seal('hello', noon)

      expect(ring.open(sealed)).toEqual({ plaintext: 'hello', sealedAt: noon })
    }
  })

  test('a key that is not of the ring does not', () => {
    expect(ring.open(createKeyring([stranger]).seal('hello', noon))).toBeNull()
  })

  test('an old key does not make an old token young', () => {
    const sealed = createKeyring([oldest]).seal('hello', noon)

    expect(ring.open(sealed, { at: noon + 60, ttlSeconds: 60 })?.plaintext).toBe('hello')
    expect(ring.open(sealed, { at: noon + 61, ttlSeconds: 60 })).toBeNull()
  })

  test('the same text sealed twice is two tokens: the IV is new each time', () => {
    expect(ring.seal('hello', noon)).not.toBe(ring.seal('hello', noon))
  })
})

describe("Python's MultiFernet", () => {
  test.each(python.multifernet)('$id: a rotated token opens with the new ring, the original with both', (vector) => {
    const [before, after] = [createKeyring(vector.keys_before), createKeyring(vector.keys_after)]
    const opened = { plaintext: vector.plaintext, sealedAt: vector.timestamp }

    expect(before.open(vector.original)).toEqual(opened)
    expect(after.open(vector.original)).toEqual(opened)
    expect(after.open(vector.rotated)).toEqual(opened)
    expect(before.open(vector.rotated)).toBeNull()
  })
})

describe('a list that is not a ring is refused, without repeating a key', () => {
  const key = generateFernetKey()

  test.each([
    ['no key', [], 'encryptionKey is missing: generate one with `npx totp-kit keygen`'],
    ['one key twice', [key, generateFernetKey(), key], 'encryptionKey contains the same key twice'],
    [
      'one that is not a Fernet key',
      [key, 'correct horse battery staple'],
      'a Fernet key must be 32 bytes in URL-safe base64 with padding (44 characters)',
    ],
  ])('%s', (_what, keys, message) => {
    expect(() => createKeyring(keys)).toThrow(new TypeError(message))
  })
})

describe('generateFernetKey', () => {
  test('makes 44 characters that a ring takes', () => {
    const key = generateFernetKey()

    expect(key).toMatch(/^[\w-]{43}=$/)
    expect(() => createKeyring([key])).not.toThrow()
  })

  test('makes another key each time', () => {
    expect(new Set(Array.from({ length: 100 }, generateFernetKey)).size).toBe(100)
  })
})

describe('derive', () => {
  const keys = [generateFernetKey(), generateFernetKey()]
  const ring = createKeyring(keys)

  test('what is sealed under one purpose opens under that purpose only', () => {
    const sealed = ring.derive('login').seal('hello', noon)

    expect(ring.derive('login').open(sealed)?.plaintext).toBe('hello')
    expect(ring.derive('enrollment').open(sealed)).toBeNull()
    expect(ring.derive('login ').open(sealed)).toBeNull()
    expect(ring.open(sealed)).toBeNull()
  })

  test('what the ring itself sealed does not open under a purpose, not even under one without a name', () => {
    const sealed = ring.seal('hello', noon)

    expect(ring.derive('login').open(sealed)).toBeNull()
    expect(ring.derive('').open(sealed)).toBeNull()
  })

  test('purposes of purposes are purposes of their own', () => {
    const sealed = ring.derive('a').derive('b').seal('hello', noon)

    expect(ring.derive('a').derive('b').open(sealed)?.plaintext).toBe('hello')
    expect(ring.derive('b').derive('a').open(sealed)).toBeNull()
    expect(ring.derive('a/b').open(sealed)).toBeNull()
    expect(ring.derive('b').open(sealed)).toBeNull()
  })

  test('keeps the order: the first seals, all open', () => {
    const [first, second] = keys.map((key) => createKeyring([key]).derive('login'))

    const sealed = ring.derive('login').seal('hello', noon)

    expect(first?.open(sealed)?.plaintext).toBe('hello')
    expect(second?.open(sealed)).toBeNull()
    expect(ring.derive('login').open(second?.seal('old', noon) ?? '')?.plaintext).toBe('old')
  })

  test('is HKDF as recorded, so that what an earlier release sealed still opens', () => {
    const { token, plaintext, timestamp } = recorded.sealed

    expect(createKeyring(recorded.keys).derive(recorded.purpose).open(token)).toEqual({
      plaintext,
      sealedAt: timestamp,
    })
  })
})

describe('deriveMacKeys', () => {
  const keys = [generateFernetKey(), generateFernetKey()]
  const macs = (ringKeys: string[], purpose: string) =>
    createKeyring(ringKeys)
      .deriveMacKeys(purpose)
      .map((key) => createHmac('sha256', key).update('message').digest('hex'))

  test('gives a key for each key of the ring, in its order', () => {
    const [first, second] = keys.map((key) => macs([key], 'backup-code')[0])

    expect(macs(keys, 'backup-code')).toEqual([first, second])
    expect(macs(keys.toReversed(), 'backup-code')).toEqual([second, first])
    expect(first).not.toBe(second)
  })

  test('gives other keys for another purpose', () => {
    expect(macs(keys, 'backup-code')).not.toEqual(macs(keys, 'canary'))
  })

  test('gives keys of 256 bits', () => {
    expect(
      createKeyring(keys)
        .deriveMacKeys('backup-code')
        .map((key) => key.symmetricKeySize),
    ).toEqual([32, 32])
  })
})
