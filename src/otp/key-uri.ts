import type { TotpParameters } from './totp.ts'

/** What the QR code tells an authenticator app. */
export interface KeyUri extends TotpParameters {
  /** The service, shown as the heading in the app. */
  issuer: string
  /** The user, as the user knows the account: an address or a user name. */
  accountName: string
  /** Base32 without padding. */
  secret: string
}

/** The longest key URI whose QR code a phone still reads off a screen: version 21 at level M. */
const MAX_KEY_URI_LENGTH = 700

/**
 * An `otpauth://totp/` URI in the Key URI format, RFC 3986 spelling: a space is `%20` and never `+`, which several
 * apps show as a plus. Parameters that have their default (SHA1, 6, 30) are left out: several apps ignore them, some
 * refuse them.
 *
 * @throws RangeError when issuer or account name is empty, holds a colon (it separates the two in the label) or a
 * control character, or when the whole is too long for a QR code that phones read
 */
export function keyUri({ issuer, accountName, secret, algorithm, digits, periodSeconds }: KeyUri): string {
  const service = encodeLabel('issuer', issuer)
  const label = `${service}:${encodeLabel('account name', accountName)}`
  const defaults = { algorithm: 'SHA1', digits: 6, period: 30 }
  const chosen = Object.entries({ algorithm, digits, period: periodSeconds })
    .filter(([name, value]) => value !== defaults[name as keyof typeof defaults])
    .map(([name, value]) => `&${name}=${value}`)
  const uri = `otpauth://totp/${label}?secret=${secret}&issuer=${service}${chosen.join('')}`
  if (uri.length > MAX_KEY_URI_LENGTH)
    throw new RangeError('the issuer and the account name together are too long for a QR code')
  return uri
}

function encodeLabel(what: string, text: string): string {
  if (text.trim() === '') throw new RangeError(`the ${what} must not be empty`)
  if (text.includes(':')) throw new RangeError(`the ${what} must not contain a colon`)
  if (!text.isWellFormed() || /\p{Cc}/u.test(text)) {
    throw new RangeError(`the ${what} must not contain control characters or invalid Unicode`)
  }
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)
}
