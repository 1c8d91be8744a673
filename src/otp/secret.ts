import { randomBytes } from 'node:crypto'
import { encodeBase32 } from './base32.ts'

/** A new TOTP secret in base32: 160 random bits, what RFC 4226 §4 R6 recommends and SHA1 uses whole. */
export function generateTotpSecret(): string {
  return encodeBase32(randomBytes(20))
}
