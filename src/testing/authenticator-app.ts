import { createSecretKey } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { decodeBase32 } from '../otp/base32.ts'
import type { OtpAlgorithm } from '../otp/hotp.ts'
import { totpAt } from '../otp/totp.ts'

/** An authenticator app that has scanned a key URI. */
export interface AuthenticatorApp {
  /** The heading, as the key URI says. */
  issuer: string
  /** The account, as the key URI says. */
  accountName: string
  /** The code on its screen at that time. */
  codeAt(at: UnixSeconds): string
}

/**
 * What an authenticator app makes of a key URI.
 *
 * @throws TypeError when `uri` is not `otpauth://totp/issuer:account?secret=…`
 */
export function authenticatorFor(uri: string): AuthenticatorApp {
  const { protocol, host, pathname, searchParams } = new URL(uri)
  const secret = searchParams.get('secret')
  const [issuer, accountName] = decodeURIComponent(pathname.slice(1)).split(':')
  if (protocol !== 'otpauth:' || host !== 'totp' || !secret || issuer === undefined || accountName === undefined) {
    throw new TypeError('not a TOTP key URI')
  }
  const key = createSecretKey(decodeBase32(secret))
  const parameters = {
    algorithm: (searchParams.get('algorithm') ?? 'SHA1') as OtpAlgorithm,
    digits: Number(searchParams.get('digits') ?? 6),
    periodSeconds: Number(searchParams.get('period') ?? 30),
  }
  return { issuer, accountName, codeAt: (at) => totpAt(key, at, parameters) }
}
