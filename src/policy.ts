import type { OptionNames } from './check-options.ts'
import type { OtpAlgorithm } from './otp/hotp.ts'

/** Every number that a security review asks for, resolved: what `createTotp` runs with. */
export interface Policy {
  /** Shown as the heading in the authenticator app. */
  issuer: string
  totp: {
    /** SHA1: several apps know no other (Key URI format). */
    algorithm: OtpAlgorithm
    /** 6 to 8 (RFC 4226 §5.3). */
    digits: number
    /** 15 to 120; NIST SP 800-63B-4 §3.1.4.1 wants a new value at least every two minutes. */
    periodSeconds: number
    /** Steps accepted on each side of now; RFC 6238 §5.2 recommends at most one. */
    window: number
    /**
     * How far an app's clock may be off on each side, once two codes in a row have shown it: 300, five minutes, in whole
     * steps of the authenticator's own. RFC 6238 §6 wants such a limit.
     */
    maxDriftSeconds: number
    /** As long as the hash (RFC 6238 §5.1): 20, 32 or 64 bytes. RFC 4226 §4 R6 recommends 20. */
    secretBytes: number
  }
  /** Live authenticators per user, 1 to 5. 1: a new phone takes the place of the old one. */
  maxAuthenticators: number
  /** How long an unconfirmed enrollment may be confirmed. 15 minutes: time to install an app, not to be forgotten. */
  pendingEnrollmentSeconds: number
  /** How long a challenge token is good for. 120, the original's TOTP_TOKEN_MAX_AGE. */
  challengeTokenSeconds: number
  backupCodes: {
    /** 1 to 50. 10, the original's TOTP_MAX_BACKUP_CODES. */
    count: number
    /** `encrypted`: the owner can view them again after step-up. `hashed`: only the digest is kept (NIST §3.1.2.2). */
    storage: 'encrypted' | 'hashed'
  }
  failures: FailureLimits
  /** How long a device is trusted, and whether its token travels in a cookie; null: no device is. */
  trustedDevices: { seconds: number; cookie: string | null } | null
  /** How fresh a second factor must be for a change (OWASP ASVS 5.0, 7.5.1); false: never asked, as in the original. */
  stepUp: { maxAgeSeconds: number } | false
  /** Calls per caller and endpoint, for whatever takes a code, a password or work; null: not counted. */
  throttle: Rate | null
  /** `memory`: each process counts for itself. `store`: all processes count together, at a round trip a call. */
  rateLimitStorage: 'memory' | 'store'
}

/** So many calls in so many seconds. */
export interface Rate {
  /** Calls that are allowed in a window. */
  limit: number
  /** Length of a window, in seconds. */
  windowSeconds: number
}

/** The failure budget of one user and one kind of code. */
export interface FailureLimits {
  /** This many consecutive failures set in the first delay. 5: a person's slips, not a search. */
  delayAfter: number
  /** 30, the shortest wait that NIST SP 800-63B-4 §3.2.2 names. Doubles with each further failure … */
  firstDelaySeconds: number
  /** … up to this. 15 minutes. */
  maxDelaySeconds: number
  /** Consecutive failures after which time does not help any more: 100 (NIST SP 800-63B-4 §3.2.2). */
  lockAfter: number
  /** Failures in any `periodDays` days, successes in between or not: 300. Bounds guessing beside an owner who logs in daily. */
  maxPerPeriod: number
  /** 30. */
  periodDays: number
}

/** What a host may choose of the policy. Each number is checked at the start; each default stands in `policy.ts`. */
export interface PolicyOptions {
  /**
   * Shown as the heading in the authenticator app (Key URI format). Required; at most 64 characters, no colon. A new issuer
   * ends sessions, challenges and trusted devices.
   */
  issuer: string
  /** How codes are made for new enrollments. Default: SHA1, six digits, 30 seconds, one step on each side. */
  totp?: CodeOptions | undefined
  /** How long a challenge token is valid, in seconds: 1 to 3,600. Default 120, the original's `TOTP_TOKEN_MAX_AGE`. */
  challengeTokenSeconds?: number | undefined
  /** How many backup codes there are, and how they are stored. Default: ten, encrypted. */
  backupCodes?: BackupCodeOptions | undefined
  /** Authenticators per user, 1 to 5. Default 1: a new phone replaces the old one. */
  maxAuthenticators?: number | undefined
  /**
   * The failure budget of a user, for each kind of code. Default: see {@link FailureOptions}. Values that let more than 5 % of
   * accounts be guessed within a year are refused unless `unsafe` is true; `totp-kit simulate-lockout` prints the chance.
   */
  failures?: FailureOptions | undefined
  /** Lets users skip the code on a device for some days, if they ask for it when they log in. Default false: off. */
  trustedDevices?: TrustedDeviceOptions | false | undefined
  /**
   * How recent a second factor must be for a change of factors (OWASP ASVS 5.0, 7.5.1). Default `{ maxAgeSeconds: 300 }`;
   * false never asks, as in the original.
   */
  stepUp?: StepUpOptions | false | undefined
  /**
   * Calls per caller and endpoint: a number, a slash, and a unit (`s`, `m`, `h`, `d`, or a word that begins with it). Default
   * `10/minute`, the original's notation; `off` counts nothing.
   */
  rateLimit?: string | undefined
  /**
   * Where calls are counted. Default `memory`: each process counts by itself. `store`: all processes count together, at one
   * round trip a call; best with Redis in front of the store.
   */
  rateLimitStorage?: 'memory' | 'store' | undefined
}

/** How the codes of new enrollments are made and checked. Authenticators that are enrolled keep their own parameters. */
export interface CodeOptions {
  /** `SHA1`, `SHA256` or `SHA512` (RFC 6238 §1.2). Default `SHA1`: several apps support nothing else. */
  algorithm?: OtpAlgorithm | undefined
  /** Digits of a code, 6 to 8 (RFC 4226 §5.3). Default 6. */
  digits?: number | undefined
  /** Seconds for which a code is shown, 15 to 120 (NIST SP 800-63B-4 §3.1.4.1). Default 30 (RFC 6238 §5.2). */
  periodSeconds?: number | undefined
  /** Time steps accepted on each side of the current one, 0 to 2. Default 1, as RFC 6238 §5.2 recommends. */
  window?: number | undefined
}

/** The backup codes of a user. */
export interface BackupCodeOptions {
  /** Codes in a set, 1 to 50. Default 10, the original's `TOTP_MAX_BACKUP_CODES`. */
  count?: number | undefined
  /**
   * Default `encrypted`: the owner can view the codes again after step-up. `hashed`: only a keyed digest is stored (NIST
   * SP 800-63B-4 §3.1.2.2), and nobody can view them again.
   */
  storage?: 'encrypted' | 'hashed' | undefined
}

/** How wrong codes are counted and what they lead to (NIST SP 800-63B-4 §3.2.2). */
export interface FailureOptions {
  /** Consecutive failures that set the first delay, 1 to 100. Default 5. */
  delayAfter?: number | undefined
  /** Seconds of the first delay, 1 to 3,600; it doubles with each further failure. Default 30. */
  firstDelaySeconds?: number | undefined
  /** Seconds of the longest delay, 1 to 86,400. Default 900. */
  maxDelaySeconds?: number | undefined
  /** Consecutive failures after which no code is accepted any more, 1 to 1,000. Default 100 (NIST SP 800-63B-4 §3.2.2). */
  lockAfter?: number | undefined
  /** Failures within `periodDays` days, with or without successes in between, 1 to 100,000. Default 300. */
  maxPerPeriod?: number | undefined
  /** The period of `maxPerPeriod` in days, 1 to 365. Default 30. */
  periodDays?: number | undefined
  /** True: accepts a budget that lets more than 5 % of accounts be guessed within a year. Default false. */
  unsafe?: boolean | undefined
}

/** Devices on which a user may skip the code. */
export interface TrustedDeviceOptions {
  /** How long a device is trusted, in days: 1 to 90. Required. */
  days: number
  /**
   * The name of an `HttpOnly` cookie that carries the device's token (RFC 6265 §4.1.1); it should begin with `__Host-` or
   * `__Secure-`. Default: no cookie, the token is in the body as `trusted_device`.
   */
  cookie?: string | undefined
}

/** How recent a second factor must be for a change of factors. */
export interface StepUpOptions {
  /** Seconds since the second factor was proved, 1 to 86,400. Required. */
  maxAgeSeconds: number
}

export const POLICY_OPTIONS: OptionNames<PolicyOptions> = {
  issuer: true,
  totp: { algorithm: true, digits: true, periodSeconds: true, window: true },
  challengeTokenSeconds: true,
  backupCodes: { count: true, storage: true },
  maxAuthenticators: true,
  failures: {
    delayAfter: true,
    firstDelaySeconds: true,
    maxDelaySeconds: true,
    lockAfter: true,
    maxPerPeriod: true,
    periodDays: true,
    unsafe: true,
  },
  trustedDevices: { days: true, cookie: true },
  stepUp: { maxAgeSeconds: true },
  rateLimit: true,
  rateLimitStorage: true,
}

/** The bytes of each hash: as long as a secret should be. */
export const HASH_BYTES: Readonly<Record<OtpAlgorithm, number>> = { SHA1: 20, SHA256: 32, SHA512: 64 }

/**
 * The issuer as it stands in a key URI.
 *
 * @throws TypeError or RangeError when it does not fit one
 */
export function readIssuer(issuer: unknown): string {
  if (typeof issuer !== 'string' || issuer.trim() === '' || issuer.includes(':')) {
    throw new TypeError('issuer must be a non-empty string without a colon (Key URI format)')
  }
  if (!issuer.isWellFormed() || /\p{Cc}/u.test(issuer)) {
    throw new TypeError('issuer must not contain control characters or invalid Unicode')
  }
  // Twice in the key URI, in percent-encoding, with room left for the account name (otp/key-uri.ts).
  if (issuer.length > 64 || encodeURIComponent(issuer).length > 192) {
    throw new RangeError('issuer must have at most 64 characters, and at most 192 when percent-encoded')
  }
  return issuer.trim()
}

/** @throws RangeError, naming the option, when `value` is no whole number from `least` to `most` */
export function integerInRange(name: string, value: unknown, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}`)
  }
  return value
}
