import { createHash } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { openValue, sealValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import type { By } from '../events.ts'
import { encodeBase32 } from '../otp/base32.ts'
import type { OtpAlgorithm } from '../otp/hotp.ts'
import { keyUri } from '../otp/key-uri.ts'
import { qrSvg } from '../otp/qr.ts'
import { readIssuer } from '../policy.ts'
import type { PendingAuthenticator } from '../store/store.ts'
import { newBackupCodes, sealBackupCodes } from './backup-codes.ts'
import { announceChange } from './changes.ts'
import { type Context, newId } from './context.ts'
import { makeProof, type Proof, withSecondFactor } from './proof.ts'
import { type ChangePermit, outdatedPermit } from './step-up.ts'
import { nothingPending, proveTotpCode, readFactors, refusalOf } from './verify-code.ts'

/** What a person needs to enroll: the picture to scan, and the same in letters. Shown once, never again. */
export interface TotpSetup {
  /** An SVG picture of a QR code that holds `uri`. */
  svg: string
  /** The key URI, `otpauth://totp/…`. */
  uri: string
  /** The secret in base32, for typing in. */
  secret: string
  /** Until when it may be confirmed, in Unix seconds: 15 minutes. */
  expiresAt: UnixSeconds
  /** How many digits a code has, as the option `totp.digits` says. */
  digits: number
  /** How long each code is shown, as the option `totp.periodSeconds` says. */
  periodSeconds: number
  /** The hash under the codes, as the option `totp.algorithm` says. */
  algorithm: OtpAlgorithm
  /** The heading in the app. */
  issuer: string
  /** Shown in the app beside the issuer. */
  accountName: string
  /** The live authenticator whose place it takes when it is confirmed; null: it takes none's. */
  replaces: { id: string; name: string | null } | null
}

/** Whose authenticator it is, as the app shows it, and what the user calls it. */
export interface SetupNames extends By {
  /** Shown in the app beside the issuer: an email address or a user name, without a colon. Required. */
  accountName: string
  /** The name that the user gives to the authenticator. Default: none. */
  name?: string | null | undefined
  /** Default: the option `issuer`. */
  issuer?: string | undefined
  /** The session that begins it, which alone may have the same secret again. Default: none may. */
  sessionId?: string | null | undefined
  /** True: gives the pending enrollment of this session again, when there is one, instead of a new secret. Default false. */
  resume?: boolean | undefined
}

/** An enrollment that was confirmed. */
export interface Confirmation {
  /** The new backup codes, to be shown once; null when 2FA was on already, because the old ones stay. */
  backupCodes: string[] | null
  /** The user has just proved the second factor: raise the session with it. */
  proof: Proof
}

/**
 * Begins an enrollment: a new secret, pending until {@link confirmTotpSetup}, for `pendingEnrollmentSeconds`. An earlier
 * pending one is replaced, or resumed by the session that began it, until the same deadline: a page was reloaded, or the
 * user went to install an app. A live authenticator goes on working untouched.
 *
 * @param names - `accountName` is shown in the app; `name` is what the user calls the authenticator
 * @throws TypeError or RangeError for an issuer that does not fit a key URI
 * @throws TotpError `validation_failed` when `accountName` does not fit a key URI; `step_up_required`, `unavailable`
 */
export async function createTotpSetup(
  ctx: Context,
  grant: ChangePermit,
  { accountName, name = null, issuer: ofUser, sessionId, resume = false }: SetupNames,
  now: UnixSeconds,
): Promise<TotpSetup> {
  const { userId } = grant
  const issuer = ofUser === undefined ? ctx.policy.issuer : readIssuer(ofUser)
  const sessionDigest = typeof sessionId === 'string' ? digestOf(sessionId) : null
  const begun = resume && sessionDigest !== null ? await pendingOf(ctx, userId, sessionDigest, now) : null
  const secret = begun?.secret ?? encodeBase32(ctx.random(ctx.policy.totp.secretBytes))
  const { algorithm, digits, periodSeconds } = begun?.parameters ?? ctx.policy.totp
  const uri = accountUri({ issuer, accountName, secret, algorithm, digits, periodSeconds })
  const svg = qrSvg(uri)
  const expiresAt = begun?.expiresAt ?? now + ctx.policy.pendingEnrollmentSeconds
  if (begun === null) {
    const sealedSecret = sealValue(ctx.keyring, { purpose: 'totp-secret', owner: userId }, secret, now)
    const parameters = { algorithm, digits, periodSeconds }
    await begin(ctx, grant, {
      id: newId(ctx),
      name,
      sealedSecret,
      parameters,
      createdAt: now,
      expiresAt,
      sessionDigest,
    })
  }
  const replaces = await replacedBy(ctx, grant, now)
  return { svg, uri, secret, expiresAt, digits, periodSeconds, algorithm, issuer, accountName, replaces }
}

async function begin(ctx: Context, { userId, user }: ChangePermit, pending: PendingAuthenticator): Promise<void> {
  const { failures } = ctx.policy
  if (!(await ctx.store.putPending(userId, pending, user.generation, failures))) throw await outdatedPermit(ctx, userId)
  await ctx.announce({ type: 'totp.created', userId, at: pending.createdAt })
}

/** The enrollment that this session has begun, with its secret; null: none, or another session's. */
async function pendingOf(ctx: Context, userId: string, session: string, now: UnixSeconds) {
  const pending = await ctx.store.getPending(userId, now)
  // Digests, which tell nothing of what they were made of however they are compared.
  const { sessionDigest: beganIn } = pending ?? {}
  if (!pending || beganIn !== session) return null
  const secret = openValue(ctx.keyring, { purpose: 'totp-secret', owner: userId }, pending.sealedSecret)
  return secret === null ? null : { ...pending, secret }
}

/** The store learns no name of a session: with some hosts it is what the session's cookie holds. */
function digestOf(sessionId: string): string {
  return createHash('sha256').update(`session ${sessionId}`).digest('base64url')
}

/** The live authenticator that a new one would replace: the one used least lately, where there is no room for one more. */
async function replacedBy(
  ctx: Context,
  { userId, user }: ChangePermit,
  now: UnixSeconds,
): Promise<TotpSetup['replaces']> {
  if (user.confirmedAt === null) return null
  const { authenticators } = await ctx.store.getStatus(userId, now, ctx.policy.failures)
  if (authenticators.length < ctx.policy.maxAuthenticators) return null
  const byUse = authenticators.toSorted(
    (a, b) => (a.lastUsedAt ?? 0) - (b.lastUsedAt ?? 0) || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1),
  )
  const [first] = byUse
  return first ? { id: first.id, name: first.name } : null
}

/**
 * Confirms the pending enrollment with the first code of the app. The code counts as used (RFC 6238 §5.2), a wrong one
 * against the failure budget. Where `maxAuthenticators` are live already, the one used least lately is replaced in the
 * same step; otherwise the new one stands beside the others.
 *
 * @param confirmation - `sessionId`: the caller's session, the one that survives; `firstFactor`: how it began
 * @throws TotpError `invalid_code`, `totp_not_set_up`, `totp_already_enabled`, `too_many_attempts`,
 * `second_factor_locked`, `unavailable`
 */
export async function confirmTotpSetup(
  ctx: Context,
  confirmation: { userId: string; code: string; sessionId: string | null; firstFactor: readonly string[] },
  now: UnixSeconds,
): Promise<Confirmation> {
  const { userId, code, sessionId, firstFactor } = confirmation
  const method = 'totp'
  const { user, authenticators } = await readFactors(ctx, { userId, method, against: 'pending', token: null, now })
  const { generation } = user
  const codes = user.confirmedAt === null ? newBackupCodes(ctx) : null
  const limits = ctx.policy.failures
  const attempt = { userId, token: null, generation, family: null, now, limits }
  const settled = await proveTotpCode(ctx, code, { userId, authenticators, now }, async (match, isCounted) =>
    match === null
      ? ctx.store.settleAttempt({ ...attempt, method, match, isCounted })
      : ctx.store.activatePending({
          userId,
          authenticatorId: match.authenticatorId,
          step: match.step,
          driftSteps: match.driftSteps,
          maxAuthenticators: ctx.policy.maxAuthenticators,
          generation,
          backupCodes: codes && sealBackupCodes(ctx, userId, codes, now),
          keepFamilyId: sessionId,
          isCounted,
          now,
          limits,
        }),
  )
  switch (settled.outcome) {
    case 'first':
    case 'added':
    case 'replaced':
      break
    case 'delayed':
    case 'locked':
    case 'wrong':
      throw await refusalOf(ctx, { userId, method, now }, settled)
    default:
      throw await nothingPending(ctx, userId)
  }
  const [replaced, added] = [settled.outcome === 'replaced', settled.outcome === 'added']
  await announceChange(ctx, sessionId, { type: 'totp.confirmed', userId, replaced, added, at: now })
  const amr = withSecondFactor(firstFactor, method)
  // As the store has just written it (`UserRecord`); read again it might be the record after a further change.
  const changed = { ...user, generation: user.generation + 1, changedAt: Math.max(user.changedAt, now) + 1 }
  return {
    backupCodes: codes,
    proof: makeProof(ctx, { userId, method, amr, backupCodesRemaining: null }, changed, now),
  }
}

function accountUri(parts: Parameters<typeof keyUri>[0]): string {
  try {
    return keyUri(parts)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    // The issuer was checked at start-up, so it is the account name, which a user may have chosen: a refusal, no bug.
    throw new TotpError('validation_failed', {
      fields: { account_name: [`Two-factor authentication cannot be set up for this account: ${error.message}.`] },
    })
  }
}
