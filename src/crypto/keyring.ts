import { createSecretKey, hkdfSync, type KeyObject, randomBytes } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { encodeBase64Url, type FernetKey, fernetKey, openFernet, parseFernetKey, sealFernet } from './fernet.ts'

/** Several Fernet keys, the semantics of Python's MultiFernet: the first seals, all open. */
export interface Keyring {
  seal(plaintext: string, at: UnixSeconds): string
  /** Null when no key of the ring opens the token, or when it is older than `age` allows. */
  open(
    token: string,
    age?: { at: UnixSeconds; ttlSeconds: number },
  ): { plaintext: string; sealedAt: UnixSeconds } | null
  /** A ring of its own for one purpose: what is sealed under one purpose cannot be opened under another. */
  derive(purpose: string): Keyring
  /** A key for HMAC-SHA-256 from each key of the ring, in the ring's order. */
  deriveMacKeys(purpose: string): readonly KeyObject[]
}

/** A new Fernet key for `TOTP_ENCRYPTION_KEY`: 32 random bytes in URL-safe base64, 44 characters. */
export function generateFernetKey(): string {
  return encodeBase64Url(randomBytes(32))
}

/**
 * @param keys - Fernet keys; the first seals, all open
 * @throws TypeError when there is none, when one is not a Fernet key, or when one stands twice
 */
export function createKeyring(keys: readonly string[]): Keyring {
  if (keys.length === 0) throw new TypeError('encryptionKey is missing: generate one with `npx totp-kit keygen`')
  if (new Set(keys).size !== keys.length) throw new TypeError('encryptionKey contains the same key twice')
  return ringOf(keys.map(parseFernetKey))
}

function ringOf(raw: readonly Uint8Array[]): Keyring {
  const keys: readonly FernetKey[] = raw.map(fernetKey)
  const roots = raw.map((bytes) => createSecretKey(bytes))
  const [first] = keys as [FernetKey]
  // HKDF, RFC 5869: the info string separates the purposes; the keys are uniformly random, so no salt is needed (§3.1).
  const derived = (purpose: string) =>
    roots.map((root) => new Uint8Array(hkdfSync('sha256', root, '', `totp-kit/${purpose}`, 32)))
  return {
    seal: (plaintext, at) => sealFernet(first, plaintext, at, randomBytes(16)),
    open(token, age) {
      for (const key of keys) {
        const opened = openFernet(key, token, age)
        if (opened) return opened
      }
      return null
    },
    derive: (purpose) => ringOf(derived(purpose)),
    deriveMacKeys: (purpose) => derived(`mac/${purpose}`).map((bytes) => createSecretKey(bytes)),
  }
}
