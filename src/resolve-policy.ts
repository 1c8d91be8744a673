import { guessingChance, MAX_CHANCE_PER_YEAR } from './guessing.ts'
import {
  type FailureLimits,
  HASH_BYTES,
  integerInRange,
  type Policy,
  type PolicyOptions,
  type Rate,
  readIssuer,
  type TrustedDeviceOptions,
} from './policy.ts'

/**
 * The policy of a host, checked.
 *
 * @throws TypeError or RangeError, naming the option, when one is of the wrong type or outside its range
 */
export function resolvePolicy(options: PolicyOptions): Policy {
  const algorithm = options.totp?.algorithm ?? 'SHA1'
  const storage = options.backupCodes?.storage ?? 'encrypted'
  const stepUp = options.stepUp ?? { maxAgeSeconds: 300 }
  if (!Object.hasOwn(HASH_BYTES, algorithm)) throw new TypeError('totp.algorithm must be SHA1, SHA256 or SHA512')
  if (storage !== 'encrypted' && storage !== 'hashed') {
    throw new TypeError('backupCodes.storage must be "encrypted" or "hashed"')
  }
  const totp = {
    algorithm,
    digits: integerInRange('totp.digits', options.totp?.digits ?? 6, 6, 8),
    periodSeconds: integerInRange('totp.periodSeconds', options.totp?.periodSeconds ?? 30, 15, 120),
    window: integerInRange('totp.window', options.totp?.window ?? 1, 0, 2),
    maxDriftSeconds: 300,
    secretBytes: HASH_BYTES[algorithm],
  }
  const maxAuthenticators = integerInRange('maxAuthenticators', options.maxAuthenticators ?? 1, 1, 5)
  const failures = readFailures(options.failures)
  const { chance } = guessingChance({ totp, failures, maxAuthenticators }).ownerDaily
  if (chance > MAX_CHANCE_PER_YEAR && options.failures?.unsafe !== true) {
    throw new RangeError(
      `with these values of failures, totp.window and maxAuthenticators, an attacker who has the password can guess a ` +
        `code within a year for ${(chance * 100).toFixed(1)}% of accounts (limit: ${MAX_CHANCE_PER_YEAR * 100}%); ` +
        'set failures.unsafe to true to allow this',
    )
  }
  const rateLimitStorage = options.rateLimitStorage ?? 'memory'
  if (rateLimitStorage !== 'memory' && rateLimitStorage !== 'store') {
    throw new TypeError('rateLimitStorage must be "memory" or "store"')
  }
  if (stepUp !== false) integerInRange('stepUp.maxAgeSeconds', stepUp.maxAgeSeconds, 1, 86_400)
  return {
    issuer: readIssuer(options.issuer),
    totp,
    maxAuthenticators,
    pendingEnrollmentSeconds: 15 * 60,
    challengeTokenSeconds: integerInRange('challengeTokenSeconds', options.challengeTokenSeconds ?? 120, 1, 3600),
    backupCodes: { count: integerInRange('backupCodes.count', options.backupCodes?.count ?? 10, 1, 50), storage },
    failures,
    trustedDevices: readTrustedDevices(options.trustedDevices ?? false),
    stepUp,
    throttle: readRate(options.rateLimit ?? '10/minute'),
    rateLimitStorage,
  }
}

function readFailures(options: PolicyOptions['failures'] = {}): FailureLimits {
  return {
    delayAfter: integerInRange('failures.delayAfter', options.delayAfter ?? 5, 1, 100),
    firstDelaySeconds: integerInRange('failures.firstDelaySeconds', options.firstDelaySeconds ?? 30, 1, 3600),
    maxDelaySeconds: integerInRange('failures.maxDelaySeconds', options.maxDelaySeconds ?? 15 * 60, 1, 86_400),
    lockAfter: integerInRange('failures.lockAfter', options.lockAfter ?? 100, 1, 1000),
    maxPerPeriod: integerInRange('failures.maxPerPeriod', options.maxPerPeriod ?? 300, 1, 100_000),
    periodDays: integerInRange('failures.periodDays', options.periodDays ?? 30, 1, 365),
  }
}

function readTrustedDevices(options: TrustedDeviceOptions | false): Policy['trustedDevices'] {
  if (options === false) return null
  const { days, cookie = null } = options
  // RFC 6265 §4.1.1: a cookie's name is a token.
  if (cookie !== null && !/^[\w!#$%&'*+.^`|~-]{1,64}$/.test(cookie)) {
    throw new TypeError('trustedDevices.cookie must be a valid cookie name (RFC 6265 §4.1.1)')
  }
  return { seconds: integerInRange('trustedDevices.days', days, 1, 90) * 86_400, cookie }
}

const WINDOWS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** The original's notation (Django REST Framework): a number, a slash, and a unit of which the first letter counts. */
function readRate(rate: string): Rate | null {
  if (rate === 'off') return null
  const [, limit, unit] = /^([1-9]\d{0,6})\/(s|m|h|d)[a-z]*$/.exec(rate) ?? []
  const windowSeconds = WINDOWS[unit ?? '']
  if (windowSeconds === undefined) throw new TypeError('rateLimit must have the form 10/minute, or be "off"')
  return { limit: Number(limit), windowSeconds }
}
