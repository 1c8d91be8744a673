import { timingSafeEqual } from 'node:crypto'
import { checkOptions, type OptionNames } from '../check-options.ts'
import type { UnixSeconds } from '../clock.ts'
import { openValue, sealValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import { guessingChance, MAX_CHANCE_PER_YEAR } from '../guessing.ts'
import { decodeBase32, encodeBase32 } from '../otp/base32.ts'
import type { OtpAlgorithm } from '../otp/hotp.ts'
import { stepAt, type TotpParameters } from '../otp/totp.ts'
import { readTypedCode } from '../otp/typed-code.ts'
import { HASH_BYTES, integerInRange } from '../policy.ts'
import { checkForeignCodes, sealBackupCodes } from './backup-codes.ts'
import { announceChange } from './changes.ts'
import { type Context, checkUserId, newId } from './context.ts'

/** An authenticator that a user has had elsewhere, and that goes on working. */
export interface AuthenticatorImport {
  /**
   * The secret that the app has: base32 as it is found in columns and key URIs (lower case, spaces, hyphens and padding
   * are forgiven), or the bytes themselves. 10 to 64 bytes.
   */
  secret: string | Uint8Array
  /** What the user calls the authenticator. Default: none. */
  name?: string | null | undefined
  /** 6 to 8. Default 6, as in a key URI that names none; not the option `totp.digits`, which is for new enrollments. */
  digits?: number | undefined
  /** Seconds, 15 to 120. Default 30. */
  periodSeconds?: number | undefined
  /** Default `SHA1`. */
  algorithm?: OtpAlgorithm | undefined
  /** The time step of the last code that was used elsewhere; it and earlier ones are refused. Default: none is spent. */
  lastUsedStep?: number | undefined
  /**
   * The unused backup codes in clear, 8 or more characters each. Taken only where the import switches 2FA on. A digest
   * cannot be taken: ours has a key in it, and is of the code itself. Default: none.
   */
  backupCodes?: readonly string[] | undefined
  /** When 2FA was switched on, in Unix seconds. Default: now. */
  confirmedAt?: UnixSeconds | undefined
}

const IMPORT_NAMES: OptionNames<AuthenticatorImport> = {
  secret: true,
  name: true,
  digits: true,
  periodSeconds: true,
  algorithm: true,
  lastUsedStep: true,
  backupCodes: true,
  confirmedAt: true,
}

/** Tries again when the user's factors change meanwhile; the last refusal is `unavailable`. */
const MAX_TRIES = 5

/**
 * Brings in an authenticator that a user has had elsewhere. A second import of the same secret changes nothing.
 *
 * @returns `imported`: 2FA is on, and open challenges, refresh families and trusted devices have ended; `unchanged`: the
 * user has this secret already
 * @throws TypeError or RangeError that names what is wrong, and nothing of the secret; nothing was written
 * @throws TotpError `totp_already_enabled` when the user has `maxAuthenticators` other ones; `unavailable`
 */
export async function importAuthenticator(
  ctx: Context,
  userId: string,
  given: AuthenticatorImport,
  now: UnixSeconds,
): Promise<'imported' | 'unchanged'> {
  checkUserId(userId)
  checkOptions(given, IMPORT_NAMES)
  const { secret, name, parameters, lastUsedStep, backupCodes, confirmedAt } = readImport(ctx, given, now)
  const sealedSecret = sealValue(ctx.keyring, { purpose: 'totp-secret', owner: userId }, secret, now)
  const id = newId(ctx)
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const { user, authenticators } = await ctx.store.getStatus(userId, now, ctx.policy.failures)
    if (authenticators.some((live) => isSameSecret(secret, secretOf(ctx, userId, live.sealedSecret))))
      return 'unchanged'
    const outcome = await ctx.store.importAuthenticator({
      userId,
      authenticator: {
        id,
        name,
        sealedSecret,
        parameters,
        createdAt: confirmedAt,
        lastUsedAt: lastUsedStep === null ? null : lastUsedStep * parameters.periodSeconds,
      },
      lastStep: lastUsedStep ?? 0,
      maxAuthenticators: ctx.policy.maxAuthenticators,
      generation: user.generation,
      backupCodes: backupCodes && sealBackupCodes(ctx, userId, backupCodes, now),
      now,
    })
    if (outcome === 'stale') continue
    if (outcome === 'full') throw new TotpError('totp_already_enabled')
    const added = outcome === 'added'
    await announceChange(ctx, null, { type: 'totp.imported', userId, authenticatorId: id, added, at: now })
    return 'imported'
  }
  throw new TotpError('unavailable', {
    retryAfterSeconds: 5,
    cause: new Error('the factors of the user changed repeatedly during the import'),
  })
}

/** What is to be imported, checked; the secret in its one spelling. */
function readImport(ctx: Context, given: AuthenticatorImport, now: UnixSeconds) {
  const { name = null, algorithm = 'SHA1', backupCodes = null, confirmedAt = now } = given
  const secret = readSecret(given.secret)
  if (
    name !== null &&
    (typeof name !== 'string' || name.length > 255 || !name.isWellFormed() || /\p{Cc}/u.test(name))
  ) {
    throw new TypeError('name must be a string of at most 255 characters, without control characters')
  }
  if (!Object.hasOwn(HASH_BYTES, algorithm)) throw new TypeError('algorithm must be SHA1, SHA256 or SHA512')
  const parameters = {
    algorithm,
    digits: integerInRange('digits', given.digits ?? 6, 6, 8),
    periodSeconds: integerInRange('periodSeconds', given.periodSeconds ?? 30, 15, 120),
  }
  checkGuessing(ctx, parameters)
  const latest = stepAt(now + ctx.policy.totp.maxDriftSeconds, parameters.periodSeconds)
  const lastUsedStep = given.lastUsedStep ?? null
  if (lastUsedStep !== null && !(Number.isInteger(lastUsedStep) && lastUsedStep >= 0 && lastUsedStep <= latest)) {
    // A time in seconds or milliseconds would have spent every code of years to come.
    throw new RangeError('lastUsedStep must be the number of a past time step: Unix seconds divided by periodSeconds')
  }
  integerInRange('confirmedAt', confirmedAt, 1, now)
  if (backupCodes !== null) checkForeignCodes(backupCodes)
  return { secret, name, parameters, lastUsedStep, backupCodes, confirmedAt }
}

function readSecret(secret: unknown): string {
  const bytes = secret instanceof Uint8Array ? secret : decodeSecret(secret)
  if (bytes.length < 10 || bytes.length > 64) {
    throw new RangeError(`secret must have 10 to 64 bytes; it has ${bytes.length}`)
  }
  return encodeBase32(bytes)
}

function decodeSecret(secret: unknown): Uint8Array {
  if (typeof secret !== 'string') throw new TypeError('secret must be a base32 string or a Uint8Array')
  try {
    return decodeBase32(readTypedCode(secret).replace(/=+$/, '').toUpperCase())
  } catch (error) {
    throw new RangeError(`secret cannot be read: ${(error as Error).message}`)
  }
}

/** Parameters that are weaker than the policy's must not undo what the policy was checked for. */
function checkGuessing({ policy }: Context, { digits }: TotpParameters): void {
  const { failures, maxAuthenticators, totp } = policy
  const chanceWith = (digits: number) =>
    guessingChance({ totp: { ...totp, digits }, failures, maxAuthenticators }).ownerDaily.chance
  const chance = chanceWith(digits)
  if (chance > MAX_CHANCE_PER_YEAR && chance > chanceWith(totp.digits)) {
    throw new RangeError(
      `digits: with ${digits} digits and the failures option as set, too many accounts could be guessed within a year`,
    )
  }
}

/** The bytes, since a secret may have been stored in another spelling. */
function secretOf(ctx: Context, userId: string, sealedSecret: string): Uint8Array | null {
  const secret = openValue(ctx.keyring, { purpose: 'totp-secret', owner: userId }, sealedSecret)
  return secret === null ? null : decodeBase32(secret)
}

function isSameSecret(imported: string, live: Uint8Array | null): boolean {
  const bytes = decodeBase32(imported)
  return live !== null && live.length === bytes.length && timingSafeEqual(live, bytes)
}
