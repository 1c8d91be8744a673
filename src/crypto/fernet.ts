import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'

/** The two halves of a Fernet key, as key objects: raw bytes cost several times more per use on Node 24. */
export interface FernetKey {
  signing: KeyObject
  encryption: KeyObject
}

/** When the sealing clock may be ahead of ours (Fernet spec, "Verifying": max clock skew). */
const MAX_CLOCK_SKEW_SECONDS = 60

const VERSION = 0x80
const HEADER_BYTES = 1 + 8 + 16
const MAC_BYTES = 32

/**
 * Reads a Fernet key: 32 bytes in URL-safe base64 with padding, 44 characters.
 *
 * @throws TypeError for anything else. The message does not repeat the key.
 */
export function parseFernetKey(text: string): Uint8Array {
  const bytes = decodeBase64Url(text)
  if (bytes?.length !== 32)
    throw new TypeError('a Fernet key must be 32 bytes in URL-safe base64 with padding (44 characters)')
  return bytes
}

/** @param bytes - 32 of them: signing key, then encryption key (Fernet spec, "Key Format") */
export function fernetKey(bytes: Uint8Array): FernetKey {
  return { signing: createSecretKey(bytes.subarray(0, 16)), encryption: createSecretKey(bytes.subarray(16, 32)) }
}

/** URL-safe base64 with padding, the spelling of Fernet keys and tokens. */
export function encodeBase64Url(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('base64url')
  return text.padEnd(Math.ceil(text.length / 4) * 4, '=')
}

/**
 * Encrypts and signs `plaintext` as a Fernet token. Opens in Python's `cryptography` with the same key.
 *
 * @param at - written into the token in clear
 * @param iv - 16 bytes from a secure source, never used twice
 */
export function sealFernet(key: FernetKey, plaintext: string, at: UnixSeconds, iv: Uint8Array): string {
  const cipher = createCipheriv('aes-128-cbc', key.encryption, iv)
  const header = Buffer.alloc(HEADER_BYTES)
  header[0] = VERSION
  header.writeBigUInt64BE(BigInt(at), 1)
  header.set(iv, 9)
  const signed = Buffer.concat([header, cipher.update(plaintext, 'utf8'), cipher.final()])
  const mac = createHmac('sha256', key.signing).update(signed).digest()
  return encodeBase64Url(Buffer.concat([signed, mac]))
}

/**
 * The plaintext of a Fernet token, or null when it is not one that this key made, whatever is wrong with it.
 * Stricter than Python, which forgives misspelt base64: one token has one spelling here.
 *
 * @param age - given, the token must be at most `ttlSeconds` old (exactly that old passes) and not from the future
 */
export function openFernet(
  key: FernetKey,
  token: string,
  age?: { at: UnixSeconds; ttlSeconds: number },
): { plaintext: string; sealedAt: UnixSeconds } | null {
  const bytes = decodeBase64Url(token)
  if (bytes === null || bytes[0] !== VERSION) return null
  const cipherBytes = bytes.length - HEADER_BYTES - MAC_BYTES
  if (cipherBytes < 16 || cipherBytes % 16 !== 0) return null
  const signed = bytes.subarray(0, -MAC_BYTES)
  const mac = createHmac('sha256', key.signing).update(signed).digest()
  if (!timingSafeEqual(mac, bytes.subarray(-MAC_BYTES))) return null
  const sealedAt = Number(bytes.readBigUInt64BE(1))
  if (age && (sealedAt + age.ttlSeconds < age.at || sealedAt > age.at + MAX_CLOCK_SKEW_SECONDS)) return null
  try {
    const decipher = createDecipheriv('aes-128-cbc', key.encryption, bytes.subarray(9, HEADER_BYTES))
    const plain = Buffer.concat([decipher.update(signed.subarray(HEADER_BYTES)), decipher.final()])
    return { plaintext: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plain), sealedAt }
  } catch {
    // A valid MAC but bad padding or UTF-8: treated as invalid.
    return null
  }
}

function decodeBase64Url(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64url')
  return encodeBase64Url(bytes) === text ? bytes : null
}
