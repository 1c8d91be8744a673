import { createHmac, type KeyObject } from 'node:crypto'

/** The hash under the HMAC. Several authenticator apps know SHA1 only, whatever the key URI says. */
export type OtpAlgorithm = 'SHA1' | 'SHA256' | 'SHA512'

/** How a counter becomes a code. */
export interface HotpParameters {
  /** The hash under the HMAC. */
  algorithm: OtpAlgorithm
  /** 6, 7 or 8 (RFC 4226 §5.3). */
  digits: number
}

/**
 * The one-time password of `counter`, leading zeros kept. RFC 4226 §5.3, dynamic truncation.
 *
 * @param counter - a whole number from 0 to 2^53 − 1; RFC 6238 §4.2 asks for more than 32 bits
 * @throws RangeError when `counter` is negative or not a safe integer: a bug in the caller, not a wrong code
 */
export function hotp(secret: KeyObject, counter: number, parameters: HotpParameters): string {
  return String(hotpNumber(secret, counter, parameters)).padStart(parameters.digits, '0')
}

/** {@link hotp} before it is written in digits: D mod 10^Digit of RFC 4226 §5.3. */
export function hotpNumber(secret: KeyObject, counter: number, { algorithm, digits }: HotpParameters): number {
  if (!Number.isSafeInteger(counter) || counter < 0)
    throw new RangeError('HOTP counter must be an integer of at least 0')
  const message = Buffer.alloc(8)
  message.writeUInt32BE(Math.floor(counter / 0x1_0000_0000), 0)
  message.writeUInt32BE(counter % 0x1_0000_0000, 4)
  const mac = createHmac(algorithm, secret).update(message).digest()
  const offset = mac.readUInt8(mac.length - 1) & 0xf
  const binary = mac.readUInt32BE(offset) & 0x7fff_ffff
  return binary % 10 ** digits
}
