import type { UnixSeconds } from '../clock.ts'
import { backupCodeDigests } from '../crypto/digest.ts'
import { TotpError } from '../errors.ts'
import type { SecondFactorMethod } from '../events.ts'
import { readBackupCode } from '../otp/backup-code.ts'
import { looksLikeTotpCode } from '../otp/typed-code.ts'
import type {
  Attempt,
  AuthenticatorRecord,
  Factors,
  FailureKind,
  RefreshFamily,
  Settled,
  SingleUse,
} from '../store/store.ts'
import { type Context, checkUserId, newId } from './context.ts'
import { makeProof, type Proof, withSecondFactor } from './proof.ts'
import { matchAtOtherTime, matchTotpCode, openAuthenticators, type TotpMatch } from './totp-code.ts'

/** A code as a person typed it, and the kind it is meant to be. */
export interface TypedCode {
  /** Which kind of code it is meant to be. */
  method: SecondFactorMethod
  /** The code as typed; spaces and hyphens are ignored. */
  code: string
}

/** A code whose kind is told by the caller, or by how it looks. */
export function typedCode(code: string | TypedCode): TypedCode {
  if (typeof code !== 'string') return code
  return { method: looksLikeTotpCode(code) ? 'totp' : 'backup_code', code }
}

const CODE_METHODS: ReadonlySet<unknown> = new Set(['totp', 'backup_code'] satisfies SecondFactorMethod[])

/** What a code is the answer to. */
interface Question {
  userId: string
  /** The token that a success consumes; null: none. */
  challenge: SingleUse | null
  /** What the user proved before. */
  firstFactor: readonly string[]
  /** The lifetime of a refresh token family that begins with the success; null: none begins. */
  familySeconds?: number | null
}

/**
 * The only way a code becomes a proof. What it is judged by is read, it is judged, and the verdict is settled: admitted
 * against the failure budget and written down with everything that follows from it, in one step. Nothing of the verdict
 * leaves this function before that.
 *
 * @throws TotpError `invalid_code`, `code_already_used`, `too_many_attempts`, `second_factor_locked`,
 * `challenge_invalid`, `totp_not_set_up`, `totp_not_enabled`, `unavailable`
 * @throws TypeError when `typed.method` is neither `totp` nor `backup_code`
 */
export async function proveCode(ctx: Context, typed: TypedCode, question: Question, now: UnixSeconds): Promise<Proof> {
  const { userId, challenge, firstFactor, familySeconds = null } = question
  const { method, code } = typed
  // A host may pass on what a client sent, and each further word would be a failure budget of its own.
  if (!CODE_METHODS.has(method)) throw new TypeError('method must be totp or backup_code')
  const { user, authenticators } = await readFactors(ctx, { userId, method, against: 'live', token: challenge, now })
  const family = familySeconds === null ? null : newFamily(ctx, userId, now + familySeconds)
  const attempt = { userId, token: challenge, generation: user.generation, family, now, limits: ctx.policy.failures }
  const settled =
    method === 'totp'
      ? await proveTotpCode(ctx, code, { userId, authenticators, now }, (match, isCounted) =>
          ctx.store.settleAttempt({ ...attempt, method, match, isCounted }),
        )
      : await ctx.store.settleAttempt({ ...attempt, method, digests: digestsOf(ctx, userId, code) })
  if (settled.outcome === 'stale' && challenge === null) throw await outdatedFactors(ctx, { userId, method, now })
  if (settled.outcome !== 'spent') throw await refusalOf(ctx, { userId, method, now }, settled)
  const { backupCodesRemaining } = settled
  await ctx.announce({ type: 'totp.verified', userId, method, at: now })
  if (backupCodesRemaining !== null) {
    await ctx.announce({ type: 'backup_code.used', userId, remaining: backupCodesRemaining, at: now })
  }
  const amr = withSecondFactor(firstFactor, method)
  return makeProof(ctx, { userId, method, amr, backupCodesRemaining }, user, now, family)
}

/** How the settling of a TOTP code may end, at a login and at the first code of an enrollment. */
type Outcome = { outcome: string }

/**
 * Settles a TOTP code, and where it is wrong looks whether it is right at another time: two such codes in a row are right
 * (RFC 4226 §7.4), and the failure that was counted for the second one is taken back.
 *
 * @param settle - admits the attempt and writes down what follows
 * @returns the outcome of `settle`; `wrong` and `spent_before` with what the refusal tells beside it
 */
export async function proveTotpCode<O extends Outcome>(
  ctx: Context,
  code: string,
  { userId, authenticators, now }: { userId: string; authenticators: readonly AuthenticatorRecord[]; now: UnixSeconds },
  settle: (match: TotpMatch | null, isCounted: boolean) => Promise<O>,
): Promise<O & Told> {
  const opened = openAuthenticators(ctx, userId, authenticators)
  const match = matchTotpCode(ctx, code, opened, now)
  const settled = await settle(match, false)
  if (settled.outcome === 'spent_before') return { ...settled, nextCodeSeconds: match?.nextCodeSeconds }
  if (settled.outcome !== 'wrong') return settled
  const otherTime = await matchAtOtherTime(ctx, code, { userId, opened, now })
  if (otherTime === null) return settled
  if (otherTime.kind === 'off_time') {
    const { authenticatorId, step, isClockOff, clockOffsetSeconds } = otherTime
    await ctx.store.noteResyncStep(userId, authenticatorId, step)
    return isClockOff ? { ...settled, clockOffsetSeconds } : settled
  }
  const again = await settle(otherTime.match, true)
  if (again.outcome === 'spent_before') return { ...again, nextCodeSeconds: otherTime.match.nextCodeSeconds }
  if (FAILED.has(again.outcome)) return settled
  const { authenticatorId, clockOffsetSeconds } = otherTime.match
  await ctx.announce({ type: 'totp.resynchronized', userId, authenticatorId, clockOffsetSeconds, at: now })
  return again
}

/** What a refusal tells beside its outcome. */
interface Told {
  /** Until the app shows a code that is not spent. */
  nextCodeSeconds?: number | undefined
  /** How far the clock of the authenticator is ahead. */
  clockOffsetSeconds?: number | undefined
}

const FAILED: ReadonlySet<string> = new Set(['wrong', 'stale', 'delayed', 'locked', 'refused'])

/**
 * What an attempt is judged by.
 *
 * @throws TotpError when it must not be judged
 */
export async function readFactors(
  ctx: Context,
  attempt: Omit<Attempt, 'limits' | 'method'> & { method: SecondFactorMethod },
): Promise<Extract<Factors, { outcome: 'open' }>> {
  const { userId, method, against, now } = attempt
  checkUserId(userId)
  const factors = await ctx.store.readFactors({ ...attempt, limits: ctx.policy.failures })
  if (factors.outcome === 'open') return factors
  if (factors.outcome === 'absent') {
    throw await (against === 'live' ? notEnabled(ctx, userId, now) : nothingPending(ctx, userId))
  }
  throw await refusalOf(ctx, { userId, method, now }, factors)
}

function newFamily(ctx: Context, userId: string, expiresAt: UnixSeconds): RefreshFamily {
  return { id: newId(ctx), userId, tokenId: newId(ctx), expiresAt }
}

function digestsOf(ctx: Context, userId: string, code: string): readonly string[] {
  return backupCodeDigests(ctx.backupCodeKeys, userId, readBackupCode(code))
}

/** Why there is no live factor: nothing was begun, or it was never confirmed. */
export async function notEnabled(ctx: Context, userId: string, now: UnixSeconds): Promise<TotpError> {
  const pending = await ctx.store.getPending(userId, now)
  return new TotpError(pending ? 'totp_not_enabled' : 'totp_not_set_up')
}

/** Why there is nothing to confirm: it was confirmed before, or never begun, or has expired. */
export async function nothingPending(ctx: Context, userId: string): Promise<TotpError> {
  const { confirmedAt } = await ctx.store.getUser(userId)
  return new TotpError(confirmedAt === null ? 'totp_not_set_up' : 'totp_already_enabled')
}

/** The refusal when the factors changed while the code was judged, whatever the verdict was: nothing was admitted. */
async function outdatedFactors(
  ctx: Context,
  { userId, method, now }: { userId: string; method: SecondFactorMethod; now: UnixSeconds },
): Promise<TotpError> {
  const { attemptsLeft } = await ctx.store.getFailureBudget(userId, method, now, ctx.policy.failures)
  await ctx.announce({ type: 'totp.refused', userId, method, code: 'invalid_code', at: now })
  return new TotpError('invalid_code', { attemptsLeft })
}

/**
 * Announces how an attempt was refused, and makes the error that tells it. Only ever told to somebody who has passed the first
 * factor.
 */
export async function refusalOf(
  ctx: Context,
  { userId, method, now: at }: { userId: string; method: SecondFactorMethod; now: UnixSeconds },
  refused: Exclude<Settled, { outcome: 'spent' }> & Told,
): Promise<TotpError> {
  const announced = async (error: TotpError) => {
    await ctx.announce({ type: 'totp.refused', userId, method, code: error.code, at })
    return error
  }
  switch (refused.outcome) {
    case 'stale':
      return announced(new TotpError('challenge_invalid'))
    case 'locked':
      return announced(new TotpError('second_factor_locked'))
    case 'delayed':
      return announced(new TotpError('too_many_attempts', { retryAfterSeconds: refused.retryAt - at }))
    case 'spent_before': {
      const { attemptsLeft } = refused.budget
      return announced(new TotpError('code_already_used', { attemptsLeft, retryAfterSeconds: refused.nextCodeSeconds }))
    }
    case 'wrong': {
      const { clockOffsetSeconds } = refused
      const { attemptsLeft, lockedUntil, consecutive } = refused.budget
      const retryAfterSeconds = typeof lockedUntil === 'number' ? lockedUntil - at : undefined
      const error = await announced(
        new TotpError('invalid_code', { attemptsLeft, retryAfterSeconds, clockOffsetSeconds }),
      )
      await announceFailures(ctx, { userId, method, consecutive, now: at })
      return error
    }
  }
}

/** By the count that was written with the attempt, which no other attempt at the same time has: each is announced once. */
export async function announceFailures(
  ctx: Context,
  failed: { userId: string; method: FailureKind; consecutive: number; now: UnixSeconds },
): Promise<void> {
  const { userId, method, consecutive, now: at } = failed
  const { delayAfter, lockAfter } = ctx.policy.failures
  if (consecutive === delayAfter) await ctx.announce({ type: 'totp.failing', userId, method, consecutive, at })
  if (consecutive === lockAfter) await ctx.announce({ type: 'totp.locked', userId, method, at })
}
