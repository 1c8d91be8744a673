import { sealValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import { encodeBase32 } from '../otp/base32.ts'
import { keyUri } from '../otp/key-uri.ts'
import { qrSvg } from '../otp/qr.ts'
import { judgeAppCode } from './app-code.ts'
import { newBackupCodes, sealBackupCodes } from './backup-codes.ts'
import { announceChange } from './changes.ts'
import { type Context, newId } from './context.ts'
import { announceResynchronised, nothingPending, reserve, wrongCode } from './proof.ts'
import { type Grant, outdatedGrant } from './step-up.ts'

/** What a person needs to enrol: the picture to scan, and the same in letters. Shown once, never again. */
export interface TotpSetup {
  /** An SVG picture of a QR code that holds `uri`. */
  svg: string
  /** The key URI, `otpauth://totp/…`. */
  uri: string
  /** The secret in base32, for typing in. */
  secret: string
}

/**
 * Begins an enrolment: a new secret, pending until {@link confirmTotpSetup}, for `pendingEnrolmentSeconds`. An earlier
 * pending one is replaced; a live authenticator goes on working untouched.
 *
 * @param enrolment - `accountName` is shown in the app; `name` is what the user calls the authenticator
 * @throws TotpError `validation_failed` when `accountName` does not fit a key URI; `step_up_required`, `unavailable`
 */
export async function createTotpSetup(
  ctx: Context,
  grant: Grant,
  { accountName, name }: { accountName: string; name: string | null },
): Promise<TotpSetup> {
  const { userId, user } = grant
  const { issuer, totp, pendingEnrolmentSeconds } = ctx.policy
  const { algorithm, digits, periodSeconds } = totp
  const now = ctx.clock()
  const secret = encodeBase32(ctx.random(totp.secretBytes))
  const uri = accountUri({ issuer, accountName, secret, algorithm, digits, periodSeconds })
  const svg = qrSvg(uri)
  const pending = {
    id: newId(ctx),
    name,
    sealedSecret: sealValue(ctx.keyring, { purpose: 'totp-secret', owner: userId }, secret, now),
    parameters: { algorithm, digits, periodSeconds },
    createdAt: now,
    expiresAt: now + pendingEnrolmentSeconds,
    sessionDigest: null,
  }
  const { failures } = ctx.policy
  if (!(await ctx.store.putPending(userId, pending, user.generation, failures))) throw await outdatedGrant(ctx, userId)
  await ctx.announce({ type: 'totp.created', userId, at: now })
  return { svg, uri, secret }
}

/**
 * Confirms the pending enrolment with the first code of the app. The code counts as used (RFC 6238 §5.2), a wrong one
 * against the failure budget. Where `maxAuthenticators` are live already, the one used least lately is replaced in the
 * same step; otherwise the new one stands beside the others.
 *
 * @param confirmation - `keepFamilyId`: the refresh family of the caller; the user's others end
 * @returns the new backup codes; null when 2FA was on already, because the codes stay
 * @throws TotpError `invalid_code`, `totp_not_set_up`, `totp_already_enabled`, `too_many_attempts`,
 * `second_factor_locked`, `unavailable`
 */
export async function confirmTotpSetup(
  ctx: Context,
  { userId, code, keepFamilyId }: { userId: string; code: string; keepFamilyId: string | null },
): Promise<string[] | null> {
  const now = ctx.clock()
  const method = 'totp'
  const reservation = await reserve(ctx, { userId, method, against: 'pending', challenge: null, now })
  const { user, authenticators, consecutive } = reservation
  const verdict = await judgeAppCode(ctx, code, { userId, authenticators, now })
  if (verdict.verdict !== 'right') throw await wrongCode(ctx, { userId, method, verdict, consecutive, now })
  const { authenticatorId, step, driftSteps } = verdict
  const codes = user.confirmedAt === null ? newBackupCodes(ctx) : null
  const outcome = await ctx.store.activatePending({
    userId,
    authenticatorId,
    step,
    driftSteps,
    maxAuthenticators: ctx.policy.maxAuthenticators,
    generation: user.generation,
    backupCodes: codes && sealBackupCodes(ctx, userId, codes, now),
    keepFamilyId,
    now,
  })
  if (outcome === 'refused') throw await nothingPending(ctx, userId)
  if (verdict.resynchronised) await announceResynchronised(ctx, userId, verdict, now)
  const [replaced, added] = [outcome === 'replaced', outcome === 'added']
  await announceChange(ctx, keepFamilyId, { type: 'totp.confirmed', userId, replaced, added, at: now })
  return codes
}

function accountUri(parts: Parameters<typeof keyUri>[0]): string {
  try {
    return keyUri(parts)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    // The issuer was checked at start-up, so it is the account name, which a user may have chosen: a refusal, no bug.
    throw new TotpError('validation_failed', {
      fields: { account_name: [`This account cannot be enrolled: ${error.message}.`] },
    })
  }
}
