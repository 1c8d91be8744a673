import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'

/** Signs and opens JSON Web Signatures that share one exact header. */
export interface Hs256 {
  sign(payload: string): string
  /** The payload; null for a token that has another header, another spelling, or a MAC of none of the keys. */
  open(token: string): string | null
}

const MAC_BYTES = 32
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * HMAC-SHA-256 in compact serialization. RFC 7515 §3.1, RFC 7518 §3.2.
 * The header is compared as text and never parsed, so a token cannot choose its algorithm, its key or an extension
 * (RFC 8725 §3.1). Base64url is strict: one token has one spelling.
 *
 * @param header - JSON text that names HS256
 * @param keys - the first signs, all verify
 */
export function hs256(header: string, keys: readonly KeyObject[]): Hs256 {
  const [signingKey] = keys as [KeyObject]
  const prefix = `${Buffer.from(header).toString('base64url')}.`
  return {
    sign(payload) {
      const signed = prefix + Buffer.from(payload).toString('base64url')
      return `${signed}.${macOf(signingKey, signed).toString('base64url')}`
    },
    open(token) {
      const end = token.lastIndexOf('.')
      if (end < prefix.length || !token.startsWith(prefix)) return null
      const mac = decodeBase64Url(token.slice(end + 1))
      if (mac?.length !== MAC_BYTES) return null
      const signed = token.slice(0, end)
      if (!keys.some((key) => timingSafeEqual(macOf(key, signed), mac))) return null
      const payload = decodeBase64Url(token.slice(prefix.length, end))
      return payload && textOf(payload)
    },
  }
}

function macOf(key: KeyObject, signed: string): Buffer {
  return createHmac('sha256', key).update(signed).digest()
}

/** Null for padding, characters of another alphabet, and unused bits that are not zero (RFC 4648 §3.5). */
function decodeBase64Url(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? bytes : null
}

function textOf(bytes: Buffer): string | null {
  try {
    return utf8.decode(bytes)
  } catch {
    return null
  }
}
