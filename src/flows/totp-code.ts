import { createSecretKey, type KeyObject } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { openValue } from '../crypto/sealed-value.ts'
import { TotpError } from '../errors.ts'
import { decodeBase32 } from '../otp/base32.ts'
import { matchStep, stepAt } from '../otp/totp.ts'
import { readTypedCode } from '../otp/typed-code.ts'
import type { AuthenticatorRecord, StepMatch } from '../store/store.ts'
import type { Context } from './context.ts'

/** A TOTP code that is right now. Nothing is spent by it. */
export interface TotpMatch extends StepMatch {
  /** How far the clock of the authenticator is ahead, by its own period; negative: behind. */
  clockOffsetSeconds: number
  /** Until the app shows a code that is not spent, when this one is. At least 1. */
  nextCodeSeconds: number
}

/** A TOTP code that is right at another time. */
export type OtherTime =
  /** The second of two codes in a row that show by how much the clock is off: it is right. */
  | { kind: 'resynchronized'; match: TotpMatch }
  /** `isClockOff`: so far from now that the clock must be wrong. */
  | { kind: 'off_time'; authenticatorId: string; step: number; clockOffsetSeconds: number; isClockOff: boolean }

/** An authenticator with its secret; null: no encryption key can decrypt it, or it belongs to another user. */
export interface OpenedAuthenticator {
  authenticator: AuthenticatorRecord
  key: KeyObject | null
}

export function openAuthenticators(
  ctx: Context,
  userId: string,
  authenticators: readonly AuthenticatorRecord[],
): OpenedAuthenticator[] {
  return authenticators.map((authenticator) => ({ authenticator, key: openSecret(ctx, userId, authenticator) }))
}

/**
 * Matches a code within the window around the clock that each authenticator had when its last code was right (RFC 6238 §6).
 * All of them are tried even after a match, so that a right code takes as long as a wrong one.
 */
export function matchTotpCode(
  ctx: Context,
  typed: string,
  opened: readonly OpenedAuthenticator[],
  now: UnixSeconds,
): TotpMatch | null {
  const code = readTypedCode(typed)
  const { window } = ctx.policy.totp
  const matches = opened.map(({ authenticator, key }) => {
    const { parameters, driftSteps } = authenticator
    const itsNow = now + driftSteps * parameters.periodSeconds
    const step = key && matchStep(key, code, itsNow, { ...parameters, window })
    // The client was told when this code becomes valid, so it must not be accepted alone. Otherwise an attacker could wait,
    // and nine more guesses in a million would succeed.
    return step !== null && step !== authenticator.resyncStep ? matchOf(ctx, authenticator, step, now) : null
  })
  return matches.find((match) => match !== null) ?? null
}

/**
 * Looks whether a wrong code is right at another time, up to `maxDriftSeconds` away. Such a code alone is refused, then and
 * later; when the app's very next code follows, the authenticator and its clock are known (RFC 4226 §7.4).
 *
 * Call it only after the attempt was settled: a wrong code must not wait longer for its admission than a right one.
 *
 * @throws TotpError `unavailable` when no authenticator matches and a secret cannot be decrypted
 */
export async function matchAtOtherTime(
  ctx: Context,
  typed: string,
  { userId, opened, now }: { userId: string; opened: readonly OpenedAuthenticator[]; now: UnixSeconds },
): Promise<OtherTime | null> {
  const code = readTypedCode(typed)
  for (const { authenticator, key } of opened) {
    const { parameters } = authenticator
    const step = key && matchStep(key, code, now, { ...parameters, window: mostDrift(ctx, authenticator) })
    if (step === null) continue
    if (authenticator.resyncStep === step - 1) {
      return { kind: 'resynchronized', match: matchOf(ctx, authenticator, step, now) }
    }
    const offsetSteps = step - stepAt(now, parameters.periodSeconds)
    const clockOffsetSeconds = offsetSteps * parameters.periodSeconds
    const isClockOff = Math.abs(offsetSteps) > ctx.policy.totp.window
    return { kind: 'off_time', authenticatorId: authenticator.id, step, clockOffsetSeconds, isClockOff }
  }
  if (opened.some(({ key }) => key === null)) {
    await ctx.announce({ type: 'secret.unreadable', userId, at: now })
    throw new TotpError('unavailable', { cause: new Error('no encryption key can decrypt a stored secret') })
  }
  return null
}

function matchOf(ctx: Context, authenticator: AuthenticatorRecord, step: number, now: UnixSeconds): TotpMatch {
  const most = mostDrift(ctx, authenticator)
  const drift = step - stepAt(now, authenticator.parameters.periodSeconds)
  const driftSteps = Math.min(most, Math.max(-most, drift))
  const clockOffsetSeconds = driftSteps * authenticator.parameters.periodSeconds
  const nextCodeSeconds = secondsToNextCode(authenticator, { step, driftSteps }, now)
  return { authenticatorId: authenticator.id, step, driftSteps, clockOffsetSeconds, nextCodeSeconds }
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
