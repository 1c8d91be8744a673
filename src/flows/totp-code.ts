import { createSecretKey, type KeyObject } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { openValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import { decodeBase32 } from '../otp/base32.ts'
import { matchStep, stepAt } from '../otp/totp.ts'
import { readTypedCode } from '../otp/typed-code.ts'
import type { AuthenticatorRecord } from '../store/store.ts'
import type { Context } from './context.ts'

/** What a typed code of the app is worth. Nothing is spent by it. */
export type Verdict =
  | {
      verdict: 'right'
      authenticatorId: string
      step: number
      /** How far the app's clock was ahead at this code; to be kept with the step. */
      driftSteps: number
      /** The same in seconds, by the authenticator's own period. */
      clockOffsetSeconds: number
      /** Until the app shows a code that is not spent, when this one is. At least 1. */
      nextCodeSeconds: number
      /** The clock was too far off until now, and this is the second code in a row that shows it. */
      resynchronized: boolean
    }
  /** Right at another time. `isClockOff`: so far from now that the app's clock must be wrong. */
  | { verdict: 'far'; authenticatorId: string; step: number; clockOffsetSeconds: number; isClockOff: boolean }
  | { verdict: 'wrong' }

/**
 * Judges a code by each of the user's authenticators: within the window around the clock that the app had when its last
 * code was right (RFC 6238 §6), and else whether it would be right at another time, up to `maxDriftSeconds` off. Such a
 * code alone is refused, then and later; when the app's very next code follows, the phone is known and its clock with it
 * (RFC 4226 §7.4).
 *
 * @throws TotpError `unavailable` when no authenticator matches and a secret does not open with any key, or belongs to
 * another user
 */
export async function judgeTotpCode(
  ctx: Context,
  typed: string,
  { userId, authenticators, now }: { userId: string; authenticators: readonly AuthenticatorRecord[]; now: UnixSeconds },
): Promise<Verdict> {
  const code = readTypedCode(typed)
  const { window } = ctx.policy.totp
  const opened = authenticators.map((authenticator) => ({ authenticator, key: openSecret(ctx, userId, authenticator) }))
  for (const { authenticator, key } of opened) {
    const { parameters, driftSteps } = authenticator
    const itsNow = now + driftSteps * parameters.periodSeconds
    const step = key && matchStep(key, code, itsNow, { ...parameters, window })
    // The client was told when this code becomes valid, so it must not be accepted alone. Otherwise an attacker could wait,
    // and nine more guesses in a million would succeed.
    if (step !== null && step !== authenticator.resyncStep) return right(ctx, authenticator, step, now)
  }
  for (const { authenticator, key } of opened) {
    const { parameters } = authenticator
    const step = key && matchStep(key, code, now, { ...parameters, window: mostDrift(ctx, authenticator) })
    if (step === null) continue
    if (authenticator.resyncStep === step - 1) return { ...right(ctx, authenticator, step, now), resynchronized: true }
    const offsetSteps = step - stepAt(now, parameters.periodSeconds)
    const clockOffsetSeconds = offsetSteps * parameters.periodSeconds
    const isClockOff = Math.abs(offsetSteps) > window
    return { verdict: 'far', authenticatorId: authenticator.id, step, clockOffsetSeconds, isClockOff }
  }
  if (opened.some(({ key }) => key === null)) {
    await ctx.announce({ type: 'secret.unreadable', userId, at: now })
    throw new TotpError('unavailable', { cause: new Error('no encryption key can decrypt a stored secret') })
  }
  return { verdict: 'wrong' }
}

function right(ctx: Context, authenticator: AuthenticatorRecord, step: number, now: UnixSeconds) {
  const most = mostDrift(ctx, authenticator)
  const drift = step - stepAt(now, authenticator.parameters.periodSeconds)
  const driftSteps = Math.min(most, Math.max(-most, drift))
  const clockOffsetSeconds = driftSteps * authenticator.parameters.periodSeconds
  const nextCodeSeconds = secondsToNextCode(authenticator, { step, driftSteps }, now)
  const { id: authenticatorId } = authenticator
  const known = { authenticatorId, step, driftSteps, clockOffsetSeconds, nextCodeSeconds }
  return { verdict: 'right', ...known, resynchronized: false } as const
}

/** Until the app's own clock reaches the step after the last one spent, or after `typed` when that is later. */
function secondsToNextCode(
  { parameters, lastUsedAt, driftSteps }: AuthenticatorRecord,
  typed: { step: number; driftSteps: number },
  now: UnixSeconds,
): number {
  const { periodSeconds } = parameters
  const lastStep = lastUsedAt === null ? 0 : stepAt(lastUsedAt, periodSeconds) + driftSteps
  const last = lastStep >= typed.step ? { step: lastStep, driftSteps } : typed
  return Math.max(1, (last.step + 1 - last.driftSteps) * periodSeconds - now)
}

/** In steps of the authenticator's own: it keeps the period that it was enrolled with. */
function mostDrift({ policy }: Context, { parameters }: AuthenticatorRecord): number {
  return Math.floor(policy.totp.maxDriftSeconds / parameters.periodSeconds)
}

function openSecret(ctx: Context, userId: string, { sealedSecret }: AuthenticatorRecord): KeyObject | null {
  const secret = openValue(ctx.keyring, { purpose: 'totp-secret', owner: userId }, sealedSecret)
  return secret === null ? null : createSecretKey(decodeBase32(secret))
}
