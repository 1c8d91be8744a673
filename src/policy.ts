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
  limit: number
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

/** What a host may choose; each default stands in {@link Policy}. */
export interface PolicyOptions {
  issuer: string
  totp?: { algorithm?: OtpAlgorithm; digits?: number; periodSeconds?: number; window?: number }
  challengeTokenSeconds?: number
  backupCodes?: { count?: number; storage?: 'encrypted' | 'hashed' }
  maxAuthenticators?: number
  /**
   * The failure budget, where the defaults do not suit. One that gives an attacker more than 5 % in a year is refused
   * unless `unsafe` says that you know; `totp-kit simulate-lockout` prints the chance.
   */
  failures?: Partial<FailureLimits> & { unsafe?: boolean }
  /**
   * Lets people skip the code on a device for some days, 1 to 90, when they ask for it at log-in. Default: off.
   * `cookie`: the token travels in an `HttpOnly` cookie of that name, and never in a body; it should begin with
   * `__Host-` or `__Secure-`. Default: in the body, as `trusted_device`.
   */
  trustedDevices?: { days: number; cookie?: string } | false
  stepUp?: { maxAgeSeconds: number } | false
  /** `10/minute` (the default), `100/hour` …, the original's notation; `off` counts nothing. */
  rateLimit?: string
  /** Where calls are counted. Default `memory`; `store` for several processes, best with Redis in front of it. */
  rateLimitStorage?: 'memory' | 'store'
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
