import type { UnixSeconds } from '../clock.ts'
import { backupCodeDigests } from '../crypto/digest.ts'
import { TotpError } from '../errors.ts'
import type { SecondFactorMethod } from '../events.ts'
import { readBackupCode } from '../otp/backup-code.ts'
import { looksLikeTotpCode } from '../otp/typed-code.ts'
import type { Attempt, FailureKind, Reservation, SingleUse } from '../store/store.ts'
import { type Context, checkUserId } from './context.ts'
import { makeProof, type Proof, withSecondFactor } from './proof.ts'
import { judgeTotpCode, type Verdict } from './totp-code.ts'

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

/**
 * The only way a code becomes a proof: counted as a failure before it is judged, spent once, and only then good.
 *
 * @param question - `challenge`: the token that dies with the success; `firstFactor`: what the user proved before
 * @throws TotpError `invalid_code`, `code_already_used`, `too_many_attempts`, `second_factor_locked`,
 * `challenge_invalid`, `totp_not_set_up`, `totp_not_enabled`, `unavailable`
 * @throws TypeError when `typed.method` is neither `totp` nor `backup_code`
 */
export async function proveCode(
  ctx: Context,
  typed: TypedCode,
  question: { userId: string; challenge: SingleUse | null; firstFactor: readonly string[] },
  now: UnixSeconds,
): Promise<Proof> {
  const { userId, challenge, firstFactor } = question
  const { method, code } = typed
  // A host may pass on what a client sent, and each further word would be a failure budget of its own.
  if (!CODE_METHODS.has(method)) throw new TypeError('method must be totp or backup_code')
  const reservation = await reserve(ctx, { userId, method, against: 'live', challenge, now })
  const { user, authenticators, consecutive } = reservation
  const { generation } = user
  const verdict = method === 'totp' ? await judgeTotpCode(ctx, code, { userId, authenticators, now }) : null
  if (verdict !== null && verdict.verdict !== 'right')
    throw await wrongCode(ctx, { userId, method, verdict, consecutive, now })
  const factor = verdict ? spendingOf(verdict) : backupCodeSpending(ctx, userId, code)
  const spent = await ctx.store.spend({ userId, challenge, generation, now, ...factor })
  if (spent.outcome === 'stale' && challenge) {
    throw await refusal(ctx, { userId, method, code: 'challenge_invalid', now })
  }
  if (spent.outcome === 'stale') {
    // The factors changed while the code was judged, so it is a code of a factor that is gone.
    throw await wrongCode(ctx, { userId, method, verdict: null, consecutive, now })
  }
  if (spent.outcome === 'refused') {
    // A spent backup code is just a wrong one: only of a time step can we tell that the code was right.
    throw await wrongCode(ctx, { userId, method, verdict, consecutive, now })
  }
  if (verdict?.resynchronized) await announceResynchronized(ctx, userId, verdict, now)
  const backupCodesRemaining = method === 'backup_code' ? spent.backupCodesRemaining : null
  await ctx.announce({ type: 'totp.verified', userId, method, at: now })
  if (backupCodesRemaining !== null) {
    await ctx.announce({ type: 'backup_code.used', userId, remaining: backupCodesRemaining, at: now })
  }
  const amr = withSecondFactor(firstFactor, method)
  return makeProof(ctx, { userId, method, amr, backupCodesRemaining }, user, now)
}

/**
 * Counts an attempt and hands out what to judge it by, or refuses it.
 * The attempt stays counted when anything after this throws: an error must not be a free guess.
 */
export async function reserve(
  ctx: Context,
  attempt: Omit<Attempt, 'limits' | 'method'> & { method: SecondFactorMethod },
): Promise<Extract<Reservation, { outcome: 'reserved' }>> {
  const { userId, method, now } = attempt
  checkUserId(userId)
  const reservation = await ctx.store.reserveAttempt({ ...attempt, limits: ctx.policy.failures })
  switch (reservation.outcome) {
    case 'reserved':
      return reservation
    case 'absent':
      throw await (attempt.against === 'live' ? notEnabled(ctx, userId, now) : nothingPending(ctx, userId))
    case 'stale':
      throw await refusal(ctx, { userId, method, code: 'challenge_invalid', now })
    case 'locked':
      throw await refusal(ctx, { userId, method, code: 'second_factor_locked', now })
    case 'delayed': {
      const retryAfterSeconds = reservation.retryAt - now
      throw await refusal(ctx, { userId, method, code: 'too_many_attempts', now, retryAfterSeconds })
    }
  }
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

function backupCodeSpending(ctx: Context, userId: string, code: string) {
  const digests = backupCodeDigests(ctx.backupCodeKeys, userId, readBackupCode(code))
  return { method: 'backup_code' as const, digests }
}

function spendingOf({ authenticatorId, step, driftSteps }: Extract<Verdict, { verdict: 'right' }>) {
  return { method: 'totp' as const, authenticatorId, step, driftSteps }
}

/**
 * The refusal of a code that was judged and is not good: with what is left of the budget, and with how far off the
 * app's clock is, when it is. Only ever told to somebody who has passed the first factor.
 *
 * @param judged - `verdict` right: the code is right, and was spent before; null: there was nothing to match it with.
 * `consecutive`: as the attempt was counted
 */
export async function wrongCode(
  ctx: Context,
  judged: {
    userId: string
    method: SecondFactorMethod
    verdict: Verdict | null
    consecutive: number
    now: UnixSeconds
  },
): Promise<TotpError> {
  const { userId, method, verdict, consecutive, now } = judged
  if (verdict?.verdict === 'far') await ctx.store.noteResyncStep(userId, verdict.authenticatorId, verdict.step)
  const { failures } = ctx.policy
  if (verdict?.verdict === 'right') {
    // It was no guess, so it costs none: who types a code twice, or in two tabs, must not lock themselves out.
    await ctx.store.returnAttempt({ userId, method, consecutive })
    const { attemptsLeft } = await ctx.store.getFailureBudget(userId, method, now, failures)
    await ctx.announce({ type: 'totp.refused', userId, method, code: 'code_already_used', at: now })
    return new TotpError('code_already_used', { attemptsLeft, retryAfterSeconds: verdict.nextCodeSeconds })
  }
  const { attemptsLeft, lockedUntil } = await ctx.store.getFailureBudget(userId, method, now, failures)
  const code = 'invalid_code'
  await ctx.announce({ type: 'totp.refused', userId, method, code, at: now })
  await announceFailures(ctx, { userId, method, consecutive, now })
  return new TotpError(code, {
    attemptsLeft,
    ...(typeof lockedUntil === 'number' ? { retryAfterSeconds: lockedUntil - now } : {}),
    ...(verdict?.verdict === 'far' && verdict.isClockOff ? { clockOffsetSeconds: verdict.clockOffsetSeconds } : {}),
  })
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

export function announceResynchronized(
  ctx: Context,
  userId: string,
  { authenticatorId, clockOffsetSeconds }: { authenticatorId: string; clockOffsetSeconds: number },
  at: UnixSeconds,
): Promise<void> {
  return ctx.announce({ type: 'totp.resynchronized', userId, authenticatorId, clockOffsetSeconds, at })
}

/** Announces a refusal and makes the error that tells it. */
async function refusal(
  ctx: Context,
  refused: {
    userId: string
    method: SecondFactorMethod
    code: TotpError['code']
    now: UnixSeconds
    retryAfterSeconds?: number
  },
): Promise<TotpError> {
  const { userId, method, code, now, retryAfterSeconds } = refused
  await ctx.announce({ type: 'totp.refused', userId, method, code, at: now })
  return new TotpError(code, retryAfterSeconds === undefined ? {} : { retryAfterSeconds })
}
