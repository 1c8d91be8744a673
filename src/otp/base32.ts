const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** Base32 in upper case without padding, as authenticator apps expect it in a key URI. RFC 4648 §6. */
export function encodeBase32(bytes: Uint8Array): string {
  let text = ''
  let buffer = 0
  let bits = 0
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xfff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += ALPHABET.charAt((buffer >> bits) & 31)
    }
  }
  return bits > 0 ? text + ALPHABET.charAt((buffer << (5 - bits)) & 31) : text
}

/**
 * The bytes of upper-case base32, padded or not. RFC 4648 §6.
 *
 * @throws RangeError when `text` is not the one spelling of its bytes: another letter, a length that no bytes have,
 * or bits left over that are not zero (RFC 4648 §3.5)
 */
export function decodeBase32(text: string): Uint8Array {
  const letters = text.replace(/=+$/, '')
  if (letters !== text && text.length !== Math.ceil(letters.length / 8) * 8) {
    throw new RangeError('base32 padding must complete a group of 8 characters')
  }
  const bytes = new Uint8Array(Math.floor((letters.length * 5) / 8))
  let buffer = 0
  let bits = 0
  let written = 0
  for (const letter of letters) {
    const value = ALPHABET.indexOf(letter)
    if (value < 0) throw new RangeError('base32 may contain only the characters A-Z and 2-7')
    buffer = ((buffer << 5) | value) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      bytes[written++] = buffer >> bits
    }
  }
  if (bits >= 5 || (buffer & ((1 << bits) - 1)) !== 0) throw new RangeError('base32 is truncated or not canonical')
  return bytes
}
